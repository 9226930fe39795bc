"""Ways in which a bundle may be damaged or forged, and what `verify` says of each."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from pairpref.kaggle import manifest


def listed_anew(folder: Path) -> None:
    """What somebody does who wants a bundle to look sound."""
    about = manifest.read(folder)
    manifest.write(folder, {name: value for name, value in about.items() if name != "files"})


def flip(bundle: Path) -> None:
    path = bundle / "models/train/model.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def link_out(bundle: Path) -> None:
    path = bundle / "models/train/config.json"
    shutil.move(path, bundle.parent / "outside.json")
    path.symlink_to(bundle.parent / "outside.json")


def link_a_folder_out(bundle: Path) -> None:
    shutil.move(bundle / "models/train", bundle.parent / "train")
    (bundle / "models/train").symlink_to(bundle.parent / "train")


def name_another_folder(bundle: Path) -> None:
    about = manifest.read(bundle)
    about["files"]["../outside.json"] = about["files"]["params.yaml"]
    (bundle / "manifest.json").write_text(json.dumps(about))
    shutil.copy(bundle / "params.yaml", bundle.parent / "outside.json")


def forged(name: str, content: bytes = b"x") -> Callable[[Path], None]:
    """Add or replace a file, and name it in the manifest."""

    def damage(bundle: Path) -> None:
        (bundle / name).parent.mkdir(exist_ok=True)
        (bundle / name).write_bytes(content)
        listed_anew(bundle)

    return damage


DAMAGED = {
    "a flipped bit": (flip, "'models/train/model.safetensors' is not the file that"),
    "missing": (lambda b: (b / "models/fusion.json").unlink(), "'models/fusion.json' is missing"),
    "extra": (
        lambda b: (b / "models/train/more.json").touch(),
        "more.json' is not in the manifest",
    ),
    "a link": (link_out, "'models/train/config.json' is a link"),
    "a linked folder": (link_a_folder_out, "'models/train' is a link"),
    "a pipe": (lambda b: os.mkfifo(b / "models/x.json"), "'models/x.json' is a link or no regular"),
    "a path out": (name_another_folder, "'../outside.json' is no file of a bundle"),
    "code": (forged("models/train/modeling.py"), "modeling.py' is no file of a bundle"),
    "weights of torch": (forged("models/train/pytorch_model.bin"), "is no file of a bundle"),
    "adapters": (forged("models/train/adapted.json", b"{}"), "is no file of a bundle"),
    "a wheel elsewhere": (forged("models/a-1-py3-none-any.whl"), "is no file of a bundle"),
    "no wheel": (forged("wheels/setup.py"), "'wheels/setup.py' is no file of a bundle"),
    "a source": (forged("wheels/a-1.tar.gz"), "is no file of a bundle"),
    "a name on two lines": (forged("models/a\nb.json"), r"'models/a\nb.json' is no file of"),
    "a notebook": (forged("predict.ipynb", manifest.notebook() + b" "), "is code that this"),
    "no manifest": (lambda b: (b / "manifest.json").write_text("[1]"), "no readable manifest"),
}
