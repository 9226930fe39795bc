"""data/backbone/: which backbone exactly. The stages that load the backbone depend on it.

For a local folder it has a link to each file, and the backbone is loaded through these links, so
that what DVC hashes is what is read. For a hub name it has the commit that model.revision names.
"""

import json
import os
import shutil
from pathlib import Path

from pairpref.errors import UserError
from pairpref.files import write_json
from pairpref.params import BUILT_IN, ModelParams
from pairpref.paths import BACKBONE as RECORD

_RESOLVED = RECORD / "resolved.json"
_SECONDS = 10.0


def record(params: ModelParams) -> None:
    """Write data/backbone/ anew. The files of a local backbone are only linked to.

    Raises:
        UserError: there is no such folder, it has a broken link, or neither the hub nor its cache
            here knows the name and revision.
    """
    shutil.rmtree(RECORD, ignore_errors=True)
    if params.backbone in BUILT_IN:
        # The same for each, so that after the checkout of a version nothing runs again.
        write_json(_RESOLVED, {"name": "built in"})
    elif Path(params.backbone).is_dir():
        _link(Path(params.backbone))
    else:
        commit = _commit(params.backbone, params.revision)
        write_json(_RESOLVED, {"name": params.backbone, "revision": commit})


def source(params: ModelParams) -> tuple[str, str | None]:
    """What to load a backbone by: data/backbone/ for a local one, else the hub name and its commit.

    Raises:
        UserError: data/backbone/ is not of this backbone.
    """
    if params.backbone in BUILT_IN:
        return params.backbone, None
    folder = Path(params.backbone)
    try:
        if folder.is_dir():
            files = [path for path in RECORD.rglob("*") if not path.is_dir()]
            if files and all(file.samefile(folder / file.relative_to(RECORD)) for file in files):
                return str(RECORD), None
        recorded = json.loads(_RESOLVED.read_text(encoding="utf-8"))
        if recorded["name"] == params.backbone:
            return params.backbone, recorded["revision"]
    except (OSError, ValueError, LookupError, TypeError):
        pass
    raise UserError(
        f"{RECORD} is not of model.backbone {params.backbone!r}: run `dvc repro backbone`."
    )


def found(params: ModelParams) -> tuple[str, str | None]:
    """`source`, or where data/backbone/ is of another one, by the name itself."""
    try:
        return source(params)
    except UserError:
        return params.backbone, params.revision


def _link(folder: Path) -> None:
    """One link a file, because DVC would change the modes of the files behind a linked folder."""
    files = [path for path in folder.rglob("*") if not path.is_dir()]
    # .git and .cache have no weights.
    files = [file for file in files if "/." not in f"/{file.relative_to(folder).as_posix()}"]
    if broken := [file for file in files if not file.is_file()]:
        raise UserError(f"model.backbone {str(folder)!r}: {broken[0]} is a link to a missing file.")
    if not files:
        raise UserError(f"model.backbone {str(folder)!r}: the folder has no files.")
    for file in files:
        link = RECORD / file.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        # A relative link leads to a copied repository's own files. It is not resolved, so that
        # moving a link on the way to another folder counts as a change.
        relative = os.path.relpath(file, link.parent.resolve())
        link.symlink_to(file if folder.is_absolute() else relative)


def _commit(name: str, revision: str) -> str:
    from huggingface_hub import HfApi, try_to_load_from_cache  # half a second to import

    try:
        return str(HfApi().model_info(name, revision=revision, timeout=_SECONDS).sha)
    except Exception as error:  # also those of its HTTP client, which change with its version
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
    try:
        cached = try_to_load_from_cache(name, "config.json", revision=revision)
    except ValueError:
        cached = None
    if isinstance(cached, str):
        return Path(cached).parent.name
    raise UserError(
        f"model.backbone {name!r} with model.revision {revision!r}: no such folder here, and not "
        f"found on the hub ({reason}) nor in its cache on this machine. A queued experiment needs "
        "the folder's absolute path."
    )
