"""pairpref bundle make: a finished run as a folder to upload, with all that predicting needs."""

import json
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pairpref
from pairpref import bundle as bundles
from pairpref.errors import UserError
from pairpref.files import new_folder, write_json
from pairpref.kaggle import half, manifest, sample, wheels
from pairpref.paths import CALIBRATE_METRICS, MODELS, PARAMS, TEST_METRICS, TRAIN_METRICS
from pairpref.versions.git import described

MOST_BYTES = 20 * 10**9  # of a dataset
_PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "scipy", "pandas", "pyarrow")


def make(
    folder: Path,
    target: wheels.Target,
    has: wheels.Versions,
    in_half: bool = False,
    say: Callable[[str], object] = print,
    models: Path = MODELS,
) -> None:
    """Make a bundle of a run's models, whole or not at all; run from the repository's root.

    Args:
        folder: new.
        target: what the wheels are for.
        has: what the image has, see `wheels.image`.
        in_half: round the weights to float16.
        say: told of each wheel with its size, what rounding costs, and the total.

    Raises:
        UserError: the folder exists, the run is not finished or can't be carried, or the bundle
            would have more than `MOST_BYTES`.
    """
    with new_folder(folder) as to:
        bundles.check(models)
        _carry(models, to / manifest.MODELS)
        about = provenance()
        if in_half:
            half.convert(to / manifest.MODELS)
            about["half"] = cost = half.cost(models, to / manifest.MODELS)
            say(
                f"float16 weights: log loss {cost['log_loss_half'] - cost['log_loss']:+.6f} on "
                f"{cost['votes']:,} votes of fold 0 ({cost['log_loss']:.4f} with float32)"
            )
        about["wheels"] = {"python": target.python, "platforms": target.platforms}
        (to / manifest.WHEELS).mkdir()
        root = Path(str(pairpref.__file__)).parents[2]
        for path in wheels.gather(to / manifest.WHEELS, root, target, has):
            say(f"{_megabytes(path.stat().st_size):>10}  {path.name}")
        for path in (PARAMS, manifest.LOCK):
            if path.exists():
                shutil.copyfile(path, to / path)
        write_json(to / manifest.PROVENANCE, about)
        (to / manifest.NOTEBOOK).write_bytes(manifest.notebook())
        device = _add_sample(to)
        # Hashed last: all else is written.
        manifest.write(to, {"pairpref": version("pairpref"), "half": in_half, "device": device})
        sizes = [path.stat().st_size for path in manifest.found(to)[0].values()]
        if sum(sizes) > MOST_BYTES:
            raise UserError(
                f"the bundle would have {sum(sizes) / 10**9:.1f} GB; at most "
                f"{MOST_BYTES // 10**9} GB fit. Use --half, fewer members or folds, or an --image "
                "that has torch."
            )
    say(f"{folder}: {len(sizes)} files, {_megabytes(sum(sizes))}")


def provenance() -> dict[str, Any]:
    """What made the models, beside dvc.lock: that has params, and hashes of the votes."""
    metrics = [path for path in (TRAIN_METRICS, CALIBRATE_METRICS, TEST_METRICS) if path.exists()]
    return {
        "pairpref": version("pairpref"),
        "commit": described(),
        "packages": {name: version(name) for name in _PACKAGES},
        "metrics": {path.stem: json.loads(path.read_text("utf-8")) for path in metrics},
    }


def _carry(models: Path, to: Path) -> None:
    """Copy a run, links followed.

    Raises:
        UserError: one of its files has no place in a bundle.
    """
    for path in (path for path in models.rglob("*") if path.is_file()):
        if path.name == manifest.ADAPTED:
            backbone = json.loads(path.read_text(encoding="utf-8"))["backbone"]
            raise UserError(
                f"{path.parent} holds adapters of {backbone!r} alone, which would be missing "
                "elsewhere. Run with -S model.lora.merge=true: that saves whole models."
            )
        copy = to / path.relative_to(models)
        if not manifest.belongs(copy.relative_to(to.parent).as_posix()):
            raise UserError(
                f"{path}: no kind of file that a bundle may hold. Remove or train again."
            )
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def _add_sample(to: Path) -> str:
    """Predict the sample with the bundle's own models; gives the kind of device it ran on."""
    from pairpref.model.precision import best_device

    judge = sample.judge(to / manifest.MODELS)
    pairs = sample.rows(judge.members.config.single)
    p = sample.predicted(judge, pairs)
    write_json(to / manifest.SAMPLE, {"rows": pairs, "probabilities": p.tolist()})
    return best_device().type


def _megabytes(size: int) -> str:
    return f"{size / 10**6:,.1f} MB"
