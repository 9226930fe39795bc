"""pairpref bundle make: a finished run as a folder to upload, with all that predicting needs."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pairpref
from pairpref import bundle as bundles
from pairpref.errors import UserError
from pairpref.files import naming, write_json
from pairpref.kaggle import half, manifest, sample, wheels
from pairpref.paths import CALIBRATE_METRICS, MODELS, PARAMS, TEST_METRICS, TRAIN_METRICS
from pairpref.typed_yaml import flat, raw

MOST_BYTES = 20 * 10**9  # of a dataset
_LOCK = Path("dvc.lock")
_PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "scipy", "pandas", "pyarrow")
_TRAINING = "clean features backbone tokenize train oof calibrate".split()


def make(
    folder: Path,
    target: wheels.Target | None,
    has: wheels.Versions,
    in_half: bool = False,
    say: Callable[[str], object] = print,
    models: Path = MODELS,
) -> None:
    """Make a bundle of a run's models, whole or not at all; run from the repository's root.

    Args:
        folder: new.
        target: what the wheels are for; None: no wheels.
        has: what the image has, see `wheels.image`.
        in_half: round the weights to float16.
        say: told of each wheel with its size, what rounding costs, and the total.

    Raises:
        UserError: the folder exists, the run is not finished or can't be carried, or the bundle
            would have more than `MOST_BYTES`.
    """
    bundles.check(models)
    parts = _parts(models)
    _refuse_large(sum(path.stat().st_size for path in parts.values()))
    with _aside(folder) as to:
        for name, path in parts.items():
            copy = to / manifest.MODELS / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        about = provenance(PARAMS)
        if in_half:
            half.convert(to / manifest.MODELS)
            about["half"] = cost = half.cost(models, to / manifest.MODELS)
            say(_told(cost))
        if target:
            about["wheels"] = {"python": target.python, "platforms": target.platforms}
            _add_wheels(to, target, has, say)
        shutil.copyfile(PARAMS, to / manifest.PARAMS)
        write_json(to / manifest.PROVENANCE, about)
        (to / manifest.NOTEBOOK).write_bytes(manifest.notebook())
        device = _add_sample(to)
        # Hashed last: `write_json` of what came before is done.
        manifest.write(to, {"pairpref": version("pairpref"), "half": in_half, "device": device})
        files, _ = manifest.found(to)
        size = sum(path.stat().st_size for path in files.values())
        _refuse_large(size)
    say(f"{folder}: {len(files)} files, {_megabytes(size)}")


def provenance(params: Path) -> dict[str, Any]:
    """Where the models come from, as far as it is known here."""
    found: dict[str, Any] = {"pairpref": version("pairpref"), "commit": _commit()}
    found["packages"] = {name: version(name) for name in _PACKAGES}
    settings = raw(params)
    locked = raw(_LOCK)["stages"] if _LOCK.exists() else {}
    train = settings["data"]["train"]
    deps = locked.get("clean", {}).get("deps", ())
    found["votes"] = next((dep for dep in deps if dep["path"] == train), {"path": train})
    now = flat(settings)
    then: dict[str, Any] = {}
    for stage in _TRAINING:
        then |= flat(locked.get(stage, {}).get("params", {}).get(PARAMS.name, {}))
    found["params_changed_since"] = sorted(n for n in then if n in now and now[n] != then[n])
    for path in (TRAIN_METRICS, CALIBRATE_METRICS, TEST_METRICS):
        if path.exists():
            found.setdefault("metrics", {})[path.stem] = json.loads(path.read_text("utf-8"))
    return found


def _commit() -> str | None:
    from pairpref.versions.git import Repository  # git need not be there

    try:
        return Repository().head()
    except UserError:
        return None


def _parts(models: Path) -> dict[str, Path]:
    """The files of all parts of a run by name, links followed.

    Raises:
        UserError: one of them has no place in a bundle.
    """
    named = json.loads((models / bundles.MANIFEST).read_text(encoding="utf-8"))
    paths = [models / bundles.MANIFEST, models / "oof" / bundles.MANIFEST]
    for part in (models / name for name in named):
        paths += [p for p in part.rglob("*") if p.is_file()] if part.is_dir() else [part]
    found = {path.relative_to(models).as_posix(): path for path in paths}
    for name, path in found.items():
        if path.name == manifest.ADAPTED:
            backbone = json.loads(path.read_text(encoding="utf-8"))["backbone"]
            raise UserError(
                f"{path.parent} holds adapters of {backbone!r} alone, which would be missing "
                "elsewhere. Run with -S model.lora.merge=true: that saves whole models."
            )
        if not manifest.belongs(f"{manifest.MODELS}/{name}"):
            raise UserError(
                f"{path}: no kind of file that a bundle may hold. Remove or train again."
            )
    return found


@contextmanager
def _aside(folder: Path) -> Iterator[Path]:
    """A folder beside a new one, which takes its place when the block ends well."""
    if folder.exists() or folder.is_symlink():
        raise UserError(f"{folder} exists: name a new folder, or remove it.")
    beside = folder.with_name(f"{folder.name}.aside")
    shutil.rmtree(beside, ignore_errors=True)  # of a run that was killed
    try:
        with naming(beside):
            beside.mkdir(parents=True)
            yield beside
            os.rename(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _add_wheels(
    to: Path, target: wheels.Target, has: wheels.Versions, say: Callable[[str], object]
) -> None:
    root = Path(str(pairpref.__file__)).parents[2]
    (to / manifest.WHEELS).mkdir()
    found = wheels.gather(to / manifest.WHEELS, root, target, has)
    for path in found:
        say(f"{_megabytes(path.stat().st_size):>10}  {path.name}")


def _add_sample(to: Path) -> str:
    """Predict the sample with the bundle's own models; gives the kind of device it ran on."""
    from pairpref.model.precision import best_device

    models = to / manifest.MODELS
    pairs = sample.rows(sample.single(models))
    p = sample.predicted(models, pairs)
    write_json(to / manifest.SAMPLE, {"rows": pairs, "probabilities": p.tolist()})
    return best_device().type


def _told(cost: dict[str, float] | None) -> str:
    if cost is None:
        return "float16 weights; what that costs is not known: the run's votes are not here"
    difference = cost["log_loss_half"] - cost["log_loss"]
    return (
        f"float16 weights: log loss {difference:+.6f} on {cost['votes']:,} votes of fold 0 "
        f"({cost['log_loss']:.4f} with float32)"
    )


def _refuse_large(size: int) -> None:
    if size > MOST_BYTES:
        raise UserError(
            f"the bundle would have {size / 10**9:.1f} GB; at most {MOST_BYTES // 10**9} GB fit. "
            "Use --half, fewer members or folds, or an --image that has torch."
        )


def _megabytes(size: int) -> str:
    return f"{size / 10**6:,.1f} MB"
