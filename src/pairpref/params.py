"""params.yaml as typed, frozen models.

Every stage begins with `load()`: a key that nobody knows, a number that isn't one or a combination that can't work stops the run
here, in one line, before anything is computed. `python -m pairpref.params` checks the file and does nothing else.
"""

import difflib
import os
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Self, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from pairpref.errors import UserError, command

PARAMS = Path("params.yaml")
ARENA = Path("data/raw/simulated")
SMALL = "small-deberta-v2"

Model = TypeVar("Model", bound=BaseModel)
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataParams(Section):
    """Which files to read, and the split. Paths are relative to the repository, or absolute."""

    train: str = Field(
        min_length=1, description="votes: CSV, JSONL or Parquet, in any form of docs/votes.md"
    )
    test: str | None = Field(
        description="pairs to predict; the arena's path stands for none where train is not the arena's"
    )
    truth: str | None = Field(description="true vote probabilities, likewise")
    solution: str | None = Field(
        description="labels of the test file with Kaggle's Usage column, likewise"
    )
    folds: int = Field(
        ge=2, le=100, description="number of folds, grouped by prompt and stratified by label"
    )
    seed: Seed = Field(description="seed of the folds")

    @field_validator("test", "truth", "solution", mode="before")
    @classmethod
    def _path(cls, value: object, info: ValidationInfo) -> object:
        if value is None and info.context:
            raise ValueError(
                "null is no path, and DVC stops at it; leave the arena's, which counts for the arena's votes only"
            )
        return value

    @model_validator(mode="after")
    def _companions_belong_to_their_votes(self) -> Self:
        """The arena's files say nothing of anybody else's: they go when `train` is not its own, the solution also when `test` is not."""
        if not in_arena(self.train):
            for name in ("test", "truth", "solution"):
                if (path := getattr(self, name)) and in_arena(path):
                    object.__setattr__(self, name, None)
        if self.solution and self.test and in_arena(self.solution) and not in_arena(self.test):
            object.__setattr__(self, "solution", None)
        return self


Weight = Annotated[float, Field(ge=-50, le=50)]


class JudgeParams(Section):
    """The simulated voter's rule; the weights are in units of log-odds. See `pairpref.data.arena.judge`."""

    relevance: Weight = Field(
        description="weight of the share of topical words that are on the prompt's topic"
    )
    quality: Weight = Field(
        description="weight of good minus bad judging words, as a share of both"
    )
    length: Weight = Field(description="weight of log2(1 + words)")
    order_effect: Weight = Field(
        description="added to A's utility: a taste for what is shown first"
    )
    tie: Weight = Field(description="log-weight of a tie in Davidson's model")


class SimulateParams(Section):
    """The made-up arena: what is shown (before the vote), the voter, and damage to the file (after the vote)."""

    seed: int = Field(ge=0)
    rows: Count = Field(description="votes in train.csv")
    test_rows: Count = Field(description="pairs in test.csv")
    repeated_prompts: Share = Field(
        description="share of rows whose prompt comes from a small pool of popular ones"
    )
    near_repeats: Share = Field(
        description="share of those that differ from the popular prompt in case or punctuation"
    )
    several_turns: Share = Field(description="share of rows with two or three turns")
    long_answers: Share = Field(description="share of answers several times the usual length")
    late_evidence: Share = Field(
        description="share of long answers that keep what matters for their last part"
    )
    null_answers: Share = Field(description="share of answers that are null")
    empty_answers: Share = Field(description="share of answers that are empty strings")
    better_first: Share = Field(
        description="share of rows that show the more skilled model as A; .5 is balanced"
    )
    judge: JudgeParams
    mojibake: Share = Field(description="share of texts decoded with the wrong code page")
    html_entities: Share = Field(
        description="share of texts whose non-ASCII letters became HTML entities"
    )
    control_characters: Share = Field(
        description="share of texts with control characters strewn in"
    )
    nested_lists: Share = Field(
        description="share of cells whose turns are wrapped in further lists"
    )
    lossy: Share = Field(
        description="share of texts cut short or with lone surrogates over words: cannot be repaired"
    )


class CleanParams(Section):
    """Reading and repairing votes. The switches change the text that is learned from, never which rows, groups or folds there are."""

    utf8: bool = Field(
        description="repair mojibake, entities of non-ASCII letters and control characters"
    )
    flatten: bool = Field(
        description="turn JSON lists into marked turns; off, the JSON source is the text"
    )
    near_duplicate: float = Field(
        gt=0, le=1, description="Jaccard similarity from which two prompts are one group"
    )
    max_bad_share: Share = Field(description="share of unusable rows that stops the run")


class TokenizeParams(Section):
    vocab_size: int = Field(
        ge=300,
        description="size of the byte-level BPE trained for the small default; others bring their own",
    )


class AugmentParams(Section):
    ab: bool = Field(description="show the model pairs in both orders")
    mode: Literal["random", "both"] = Field(
        description="random: one keyed order a pair and epoch; both: both in the same step"
    )


class ModelParams(Section):
    backbone: str = Field(
        min_length=1, description=f"{SMALL} (from random weights), a hub name or a local folder"
    )
    revision: str = Field(min_length=1, description="branch, tag or commit of a hub name")
    pooling: Literal["spans", "cls"] = Field(
        description="spans: mean over prompt, A and B each; cls: the backbone's own classifier"
    )
    max_length: int = Field(ge=16, description="tokens in a composed pair")
    hidden_size: int = Field(ge=8, description=f"width of {SMALL}")
    layers: Count = Field(description=f"layers of {SMALL}")
    dropout: float = Field(ge=0, lt=1, description=f"dropout of {SMALL}")
    lr_multiplier: float = Field(
        gt=0, description="times train.lr: learning rates are stated for pretrained weights"
    )


class TrainParams(Section):
    epochs: Count
    lr: float = Field(gt=0, lt=1, description="peak learning rate, for pretrained weights")
    scheduler: Literal["linear", "cosine", "constant"] = Field(
        description="how the learning rate falls after the warm-up"
    )
    warmup: Share = Field(
        description="share of the steps in which the learning rate rises from 0 to its peak"
    )
    batch_size: Count = Field(
        description="pairs in a step, of all processes together (both orders count once)"
    )
    gradient_accumulation_steps: Count = Field(
        description="parts in which a process computes its share of a step, to fit into memory"
    )
    weight_decay: float = Field(ge=0)
    max_grad_norm: float = Field(
        gt=0, description="longest gradient; a longer one is scaled down to it"
    )
    class_weights: bool = Field(
        description="weigh votes by the rarity of their label; predictions are corrected for it"
    )
    patience: Count | None = Field(
        description="epochs without a better validation log loss before training stops; null: never"
    )
    min_delta: float = Field(
        ge=0, description="improvements of the log loss below this count as none"
    )
    resume: bool = Field(
        description="go on from what is left of the same training in work/; false starts over"
    )
    seeds: tuple[Seed, ...] = Field(min_length=1)
    threads: Count = Field(
        description="threads of a training process; another number gives other bits"
    )


class OofParams(Section):
    enabled: bool = Field(description="export out-of-fold probabilities")
    folds: Count = Field(description="how many of data.folds are trained, fold 0 included")


class CalibrateParams(Section):
    method: Literal["none", "temperature", "temperature_tie"] = Field(
        description="temperature: one for all logits; temperature_tie: and a bias for ties. Both leave A and B alike"
    )


class InferenceParams(Section):
    dual_order: bool = Field(description="average both orders of every pair")


class PredictParams(Section):
    batch_size: Count = Field(description="sequences in a forward pass")


class ReportParams(Section):
    bins: int = Field(ge=2, le=100, description="equal-mass bins of the reliability curve")
    cuts: Literal["thirds"] | tuple[Count, Count] = Field(
        description="tokens up to which a pair is short, and medium; thirds: so that the votes fall into three equal parts"
    )

    @model_validator(mode="after")
    def _cuts_rise(self) -> Self:
        if self.cuts != "thirds" and self.cuts[0] >= self.cuts[1]:
            raise ValueError(f"cuts are {list(self.cuts)}: the second should be the larger")
        return self


class ParallelParams(Section):
    """Where independent work runs: folds, and shards of text. Neither changes anything but the time."""

    backend: Literal["loky", "ray"] = Field(
        description="loky: processes of this machine; ray: of a Ray cluster"
    )
    jobs: Count = Field(
        description="processes for independent work; 1: in the stage's own, whatever the backend"
    )


class Params(Section):
    data: DataParams
    simulate: SimulateParams
    clean: CleanParams
    tokenize: TokenizeParams
    augment: AugmentParams
    model: ModelParams
    train: TrainParams
    oof: OofParams
    calibrate: CalibrateParams
    inference: InferenceParams
    predict: PredictParams
    report: ReportParams
    parallel: ParallelParams

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.oof.folds > self.data.folds:
            raise ValueError(
                f"oof.folds is {self.oof.folds}, but there are only data.folds = {self.data.folds} folds to train"
            )
        if len(set(self.train.seeds)) < len(self.train.seeds):
            raise ValueError(f"train.seeds names a seed twice: {list(self.train.seeds)}")
        return self


def in_arena(path: str) -> bool:
    """Whether a path lies in the folder that the simulate stage writes."""
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(ARENA))


def flat(section: dict, prefix: str = "") -> dict[str, Any]:
    """Nested params by their dotted names, as `-S` and `dvc params diff` spell them."""
    found = {}
    for key, value in section.items():
        found |= (
            flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
        )
    return found


def load(path: Path | str = PARAMS) -> Params:
    """Read and check a params file.

    Raises:
        UserError: the file is missing, is not YAML, or holds a key or value that is not allowed; one line a fault.
    """
    return read(Path(path), Params)


class _Unique(yaml.SafeLoader):
    """Safe YAML in which no key comes twice: of two values one would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value} stands there twice", key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def read(path: Path, model: type[Model]) -> Model:
    """Read and check a YAML file as typed, frozen sections.

    Raises:
        UserError: as `load`.
    """
    return validated(model, raw(path), str(path), from_file=True)


def raw(path: Path = PARAMS) -> Any:
    """A YAML file as plain dicts and lists.

    Raises:
        UserError: it is missing, is not YAML, or names a key twice.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Unique)
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file. Run from the repository's root, where {path.name} is."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None


def validated(model: type[Model], raw: object, source: str, from_file: bool = False) -> Model:
    """Params, or another model, of plain dicts.

    Args:
        source: what errors begin with.
        from_file: refuse what DVC could not read from a file, too.

    Raises:
        UserError: it holds a key or value that is not allowed; one line a fault, each beginning with `source`.
    """
    try:
        return model.model_validate(raw, context=from_file)
    except ValidationError as error:
        raise UserError(
            "\n".join(f"{source}: {_explain(fault, model)}" for fault in error.errors())
        ) from None


def _explain(fault: dict, model: type[BaseModel]) -> str:
    where = [str(part) for part in fault["loc"]]
    name = ".".join(where) or "the whole file"
    match fault["type"]:
        case "extra_forbidden":
            known = list(_fields(where[:-1], model))
            near = difflib.get_close_matches(where[-1], known, n=1, cutoff=0.5)
            hint = (
                f"did you mean {'.'.join([*where[:-1], near[0]])}?"
                if near
                else f"known here: {', '.join(known)}"
            )
            return f"unknown key {name}: {hint}"
        case "missing":
            return f"{name} is missing: {_description(where, model)}"
        case "tuple_type":
            return f"{name} is {fault['input']!r}: expected a list; write [{fault['input']}]"
        case "value_error" if not where:
            return fault["msg"].removeprefix("Value error, ")
        case _:
            about, message = _description(where, model), fault["msg"].removeprefix("Value error, ")
            return f"{name} is {fault['input']!r}: {message[0].lower()}{message[1:]}" + (
                f" ({about})" if about else ""
            )


def _fields(where: list[str], model: type[BaseModel]) -> dict:
    for part in where:
        # In a dict of models the part is a key; its values' type has the fields.
        model = (
            get_args(model)[1] if get_origin(model) is dict else model.model_fields[part].annotation
        )
    return (get_args(model)[0] if get_origin(model) in (Union, UnionType) else model).model_fields


def _description(where: list[str], model: type[BaseModel]) -> str:
    try:
        return _fields(where[:-1], model)[where[-1]].description or ""
    except (LookupError, AttributeError):
        return ""


if __name__ == "__main__":
    with command("params"):
        load()
