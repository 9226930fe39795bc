"""Which backbone exactly: data/backbone/, which the stages that load it depend on.

For a local folder it holds a link to each of its files, so that DVC hashes what is in them. For a
hub name it holds the commit that model.revision stands for.
"""

import json
import os
import shutil
from pathlib import Path

from pairpref.errors import UserError
from pairpref.files import write_json
from pairpref.params import SMALL, ModelParams

RECORD = Path("data/backbone")
_RESOLVED = RECORD / "resolved.json"
_SECONDS = 10.0


def record(params: ModelParams) -> None:
    """Write data/backbone/ anew. The files of a local backbone are only linked to, never touched.

    Raises:
        UserError: there is no such folder, or neither the hub nor its cache on this machine knows
            the name and revision.
    """
    shutil.rmtree(RECORD, ignore_errors=True)
    folder = Path(params.backbone)
    if params.backbone == SMALL:
        write_json(_RESOLVED, {"name": SMALL})
    elif folder.is_dir():
        _link(folder)
    elif params.backbone.startswith(("/", "./", "../", "~")):
        raise UserError(f"model.backbone {params.backbone!r}: no such folder.")
    else:
        write_json(_RESOLVED, {"name": params.backbone, "revision": _commit(params.backbone, params.revision)})


def source(params: ModelParams) -> tuple[str, str | None]:
    """What to load a backbone by: its name or folder, and for a hub name the recorded commit.

    Raises:
        UserError: data/backbone/ is not of this hub name.
    """
    if params.backbone == SMALL or Path(params.backbone).is_dir():
        return params.backbone, None
    try:
        recorded = json.loads(_RESOLVED.read_text(encoding="utf-8"))
        if recorded["name"] == params.backbone:
            return params.backbone, recorded["revision"]
    except (OSError, ValueError, LookupError, TypeError):
        pass
    raise UserError(f"{RECORD} is not of model.backbone {params.backbone!r}: run `dvc repro backbone`.")


def _link(folder: Path) -> None:
    """A link a file: DVC would change the modes of the files behind a linked folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    # .git and .cache hold no weights.
    files = [file for file in files if "/." not in f"/{file.relative_to(folder).as_posix()}"]
    if not files:
        raise UserError(f"model.backbone {str(folder)!r}: the folder has no files.")
    for file in files:
        link = RECORD / file.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        target = file.parent.resolve() / file.name
        if not folder.is_absolute():
            # In a copied repository it leads to the copy's own files.
            target = os.path.relpath(target, link.parent.resolve())
        link.symlink_to(target)


def _commit(name: str, revision: str) -> str:
    # Takes half a second to import.
    from huggingface_hub import HfApi, try_to_load_from_cache

    try:
        return HfApi().model_info(name, revision=revision, timeout=_SECONDS).sha
    except Exception as error:  # also those of its HTTP client, which changes with its version
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
    try:
        cached = try_to_load_from_cache(name, "config.json", revision=revision)
    except ValueError:
        cached = None
    if isinstance(cached, str):
        return Path(cached).parent.name
    raise UserError(
        f"model.backbone {name!r} with model.revision {revision!r}: the hub does not give it "
        f"({reason}), and its cache on this machine has no such model. Give {SMALL}, a hub name "
        "with a branch, tag or commit, or a local folder."
    )
