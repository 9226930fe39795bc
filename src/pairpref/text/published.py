"""Why a published backbone can't be loaded, in one line that says what to do."""

import importlib.util
import json
from importlib import metadata
from pathlib import Path

from pairpref.errors import UserError

_POINTER = b"version https://git-lfs"
_WEIGHTS = ("*.safetensors", "*.bin")
_VOCABULARY = ("tokenizer.json", "*.model", "vocab.*", "merges.txt")
# What reads spm.model and tokenizer.model, and the packages that bring it.
_CONVERTERS = {"sentencepiece": "sentencepiece", "google.protobuf": "protobuf"}


def check(name: str, path: str) -> None:
    """Refuse a folder that cannot hold a whole backbone.

    Args:
        name: `model.backbone`; a hub name passes.
        path: what it is loaded by, here and below.

    Raises:
        UserError: there is no such folder, or it holds an adapter.
    """
    folder = Path(path)
    if name.startswith(("/", "./", "../", "~")) and not folder.is_dir():
        raise UserError(f"model.backbone {name!r}: no such folder.")
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        base = _field(adapter, "base_model_name_or_path") or "its base model"
        raise UserError(
            f"model.backbone {name!r} is a PEFT adapter, not a whole model. Merge it into {base} "
            f"(merge_and_unload, save_pretrained) and give the merged folder, or give {base}."
        )


def tokenizer_refusal(name: str, path: str, error: Exception) -> UserError:
    """Why the tokenizer of a backbone did not load, and what to do."""
    folder, reason = Path(path), one_line(error)
    missing = [package for module, package in _CONVERTERS.items() if not _is_installed(module)]
    convertible = [path.name for path in sorted(folder.glob("*.model"))]
    if (folder / "tokenizer.json").is_file():
        convertible = []
    if convertible and missing:
        reason = f"converting {convertible[0]} needs {' and '.join(missing)}"
        advice = f"pip install {' '.join(missing)}"
    elif convertible and "tiktoken" in reason:
        # What the library asks for when SentencePiece can't read the file.
        reason = f"{convertible[0]} is damaged, or not a SentencePiece model"
        advice = "Fetch it again, or give a folder with tokenizer.json"
    elif "did not match any variant" in reason or "unknown variant" in reason:
        advice = (
            "Its tokenizer.json is damaged, or of a newer format than tokenizers "
            f"{metadata.version('tokenizers')} reads: upgrade tokenizers"
        )
    else:
        advice = "Give a hub name or a local folder"
    what = f"no tokenizer could be loaded ({reason.replace(path, name)}). {advice}."
    return _pointer_refusal(name, path, _VOCABULARY) or UserError(
        f"model.backbone {name!r}: {what}"
    )


def weights_refusal(name: str, path: str, error: Exception) -> UserError:
    """Why the model of a backbone did not load, and what to do."""
    reason = one_line(error)
    if isinstance(error, ImportError):
        quantised = _field(Path(path) / "config.json", "quantization_config")
        method = quantised.get("quant_method") if isinstance(quantised, dict) else None
        advice = f"It is {not_trainable(method)}" if method else "Install that package"
    elif "weights_only" in str(error) or "Weights only load failed" in str(error):
        reason = "its .bin holds more than weights"
        advice = "Nothing in it was run. Give model.safetensors, or a .bin of tensors only"
    else:
        advice = (
            "Give a hub name or a local folder with config.json and model.safetensors "
            "or pytorch_model.bin"
        )
    what = f"could not be loaded ({reason.replace(path, name)}). {advice}."
    return _pointer_refusal(name, path, _WEIGHTS) or UserError(f"model.backbone {name!r}: {what}")


def not_trainable(method: str) -> str:
    """What to say of weights that a method of quantising made."""
    return f"quantised by {method}, and can't be trained: give its weights as they were before"


def refuse_vocabulary_pointers(name: str, path: str) -> None:
    """A vocabulary that is a Git LFS pointer would load: as a tokenizer of three words.

    Raises:
        UserError: there is one, and no tokenizer.json beside it.
    """
    whole = Path(path) / "tokenizer.json"
    if whole.is_file() and not _is_pointer(whole):
        return
    if refusal := _pointer_refusal(name, path, _VOCABULARY):
        raise refusal


def one_line(error: BaseException) -> str:
    """The first line of a library's message, without its full stop."""
    line = next(iter(str(error).strip().splitlines()), "").strip().rstrip(".:")
    return line if len(line) <= 300 else f"{line[:300]}…"


def _pointer_refusal(name: str, path: str, patterns: tuple[str, ...]) -> UserError | None:
    for file in (file for pattern in patterns for file in sorted(Path(path).glob(pattern))):
        if file.is_file() and _is_pointer(file):
            return UserError(
                f"model.backbone {name!r}: {file.name} is a Git LFS pointer, not the file itself. "
                "Run `git lfs pull` in that folder."
            )
    return None


def _is_pointer(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_POINTER)) == _POINTER


def _field(path: Path, name: str) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8")).get(name)
    except (OSError, ValueError, AttributeError):
        return None


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
