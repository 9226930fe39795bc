"""What is refused of a published backbone before a library reads it, in one line."""

from pathlib import Path

from pairpref.errors import UserError

_POINTER = b"version https://git-lfs"
_VOCABULARY = ("*.model", "vocab.*", "merges.txt")


def check(name: str, path: str) -> None:
    """Refuse an adapter, and Git LFS pointers among the files that are read.

    A vocabulary that is a pointer would load: as a tokenizer of three words.

    Args:
        name: `model.backbone`, for messages.
        path: what it is loaded by; a hub name passes.

    Raises:
        UserError: naming the file.
    """
    folder = Path(path)
    if (folder / "adapter_config.json").is_file():
        raise UserError(
            f"model.backbone {name!r} is a PEFT adapter, not a whole model. Merge it into its base "
            "(merge_and_unload, save_pretrained) and give the merged folder."
        )
    weights = [*folder.glob("model*.safetensors")] or [*folder.glob("pytorch_model*.bin")]
    words = [*folder.glob("tokenizer.json")]
    words = words or [file for pattern in _VOCABULARY for file in folder.glob(pattern)]
    for file in filter(Path.is_file, [*weights, *words]):
        with file.open("rb") as opened:
            if opened.read(len(_POINTER)) == _POINTER:
                raise UserError(
                    f"model.backbone {name!r}: {file.name} is a Git LFS pointer, not the file "
                    "itself. Run `git lfs pull` in that folder."
                )


def one_line(error: BaseException) -> str:
    """The first line of a library's message, without its full stop."""
    line = next(iter(str(error).strip().splitlines()), "").strip().rstrip(".:")
    return line if len(line) <= 300 else f"{line[:300]}…"
