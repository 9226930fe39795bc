"""What a training depends on. Runs with the same fingerprint are byte-identical, so one may resume
where the other stopped."""

import hashlib
import json
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, Self

from pairpref.backbone import RECORD, source
from pairpref.params import POINTWISE, Member, Params

_PACKAGE = Path(__file__).parents[1]
_CODE = ("data/folds.py", "evaluation/metrics.py", "pairs.py", "text", "model", "training")
# Of train.arguments: what is told of a training, and where. It changes no weight.
_TOLD = (
    "disable_tqdm log_level log_level_replica log_on_each_node logging_first_step logging_steps "
    "logging_strategy project report_to run_name trackio_bucket_id trackio_space_id "
    "trackio_static_space_id"
).split()
_LIBRARIES = ("accelerate", "numpy", "tokenizers", "torch", "transformers")


@dataclass(frozen=True)
class Fingerprint:
    """The job, and what its result depends on."""

    job: dict[str, int | str]  # fold, seed and member
    parts: dict[str, Any]  # each param, and the hash of each file and version of each library

    @classmethod
    def of(
        cls,
        fold: int,
        seed: int,
        params: Params,
        data: tuple[Path, ...],
        member: Member = "classifier",
    ) -> Self:
        """Fingerprint of training one fold.

        Args:
            data: files and folders that the training reads.
        """
        chosen = params.model_dump(
            mode="json",
            include={
                "augment": True,
                "clean": {"utf8", "flatten"},
                "inference": {"max_length"},
                "model": True,
                "text": True,
                "train": True,
            },
            exclude={"train": {"seeds": True, "resume": True, "arguments": {*_TOLD}}},
        )
        if member in POINTWISE:
            del chosen["augment"]  # order-free
        path, chosen["model"]["revision"] = source(params.model)
        parts = {
            f"{section}.{name}": value
            for section, fields in sorted(chosen.items())
            for name, value in fields.items()
        }
        for file in (*data, *([RECORD] if path == str(RECORD) else [])):
            parts[str(file)] = _hash(file)
        parts |= _code()
        used = (*_LIBRARIES, "peft") if params.model.lora.r else _LIBRARIES
        parts |= {library: metadata.version(library) for library in used}
        return cls({"fold": fold, "seed": seed, "member": member}, parts)

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits, the same wherever the repository is."""
        return hashlib.blake2b(self.to_json().encode(), digest_size=8).hexdigest()

    def to_json(self) -> str:
        return json.dumps({"job": self.job, "parts": self.parts}, indent=2, sort_keys=True) + "\n"

    def same_job(self, about: dict[str, Any]) -> bool:
        """Whether what `to_json` wrote is of the same fold, seed and member."""
        return about.get("job") == self.job

    def difference(self, about: dict[str, Any]) -> str:
        """In words, how an earlier training of the same job differs from this one."""
        old, new = about.get("parts", {}), self.parts
        changed = (name for name in sorted({*new, *old}) if new.get(name) != old.get(name))
        return "; ".join(
            f"{name} has changed"
            if "/" in name
            else f"{name} was {old.get(name)} and is {new.get(name)}"
            for name in changed
        )


def _hash(path: Path) -> str:
    """Of a file's bytes, or of the names and bytes of the files in a folder."""
    digest = hashlib.blake2b(digest_size=16)
    inside = [p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    for file in [path] if path.is_file() else sorted(inside):
        digest.update(f"{file.relative_to(path).as_posix()}:{file.stat().st_size}:".encode())
        with file.open("rb") as opened:
            while block := opened.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


@cache
def _code() -> dict[str, str]:
    """Hashes of the code that trains. Hashed at import; later edits don't affect this process."""
    return {f"src/pairpref/{name}": _hash(_PACKAGE / name) for name in _CODE}


_code()
