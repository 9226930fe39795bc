"""params.yaml as typed, frozen models with defaults.

Every stage begins with `load()`, which refuses unknown keys, wrong values and combinations that
can't work, in one line each. `pairpref params` checks the file and does nothing else.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pairpref.cli import parser
from pairpref.errors import UserError, command
from pairpref.paths import ARENA, DVC, PARAMS
from pairpref.typed_yaml import (
    Count,
    Number,
    Positive,
    Section,
    Share,
    Text,
    Whole,
    flat,
    plain,
    raw,
    read,
)

SMALL, BAG = "small-deberta-v2", "small-bag"
BUILT_IN = (SMALL, BAG)  # backbones from random weights, which bring no tokenizer

Processors = Annotated[Count, Field(le=1024)]
Seed = Annotated[Whole, Field(ge=0, lt=2**32)]
Weight = Annotated[Number, Field(ge=-50, le=50)]
_PATH = "expected a path; with votes of your own, keep the arena's test, truth and solution"
File = Annotated[Text, plain(_PATH)]


def in_arena(path: str) -> bool:
    """Whether a path is in the folder that the simulate stage writes."""
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(ARENA))


class DataParams(Section):  # files are relative to the repository, or absolute
    train: File = str(ARENA / "train.csv")  # votes, in any form of docs/votes.md
    test: File | None = str(ARENA / "test.csv")  # pairs to predict
    truth: File | None = str(ARENA / "truth.csv")  # true vote probabilities
    solution: File | None = str(ARENA / "solution.csv")  # labels of `test`, with Kaggle's Usage
    folds: Annotated[Whole, Field(ge=2, le=100)] = 5  # grouped by prompt, stratified by label

    @model_validator(mode="after")
    def _drop_files_of_other_votes(self) -> Self:
        """Ignore the arena's files when `train` is your own, its solution also when `test` is."""
        if not in_arena(self.train):
            for name in ("test", "truth", "solution"):
                if (path := getattr(self, name)) and in_arena(path):
                    object.__setattr__(self, name, None)
        if self.solution and self.test and in_arena(self.solution) and not in_arena(self.test):
            object.__setattr__(self, "solution", None)
        return self


class JudgeParams(Section):
    """The simulated voter's rule, in units of log-odds. See `pairpref.data.arena.judge`."""

    relevance: Weight = 5.2  # of the share of topical words that are on the prompt's topic
    quality: Weight = 2.2  # of good minus bad judging words, as a share of both
    length: Weight = 0.5  # of log2(1 + words)
    order_effect: Weight = 0.0  # added to A's utility: a preference for what is shown first
    tie: Weight = 0.5  # log-weight of a tie in Davidson's model


class SimulateParams(Section):
    """The simulated arena: what is shown, the voter, and damage to the file after the vote."""

    seed: Seed = 0
    rows: Count = 15_000  # votes in train.csv
    test_rows: Count = 2_000  # pairs in test.csv
    repeated_prompts: Share = 0.12  # of the rows: the prompt is one of a small pool
    near_repeats: Share = 0.3  # of those: case or punctuation differ
    several_turns: Share = 0.13  # of the rows: two or three turns
    long_answers: Share = 0.05  # of the answers: several times the usual length
    late_evidence: Share = 0.3  # of the long answers: what matters comes last
    null_answers: Share = 0.004
    empty_answers: Share = 0.006
    better_first: Share = 0.5  # of the rows: the more skilled model is A
    judge: JudgeParams = JudgeParams()
    mojibake: Share = 0.15  # of the texts: decoded with the wrong code page
    html_entities: Share = 0.1  # of the texts: non-ASCII letters became entities
    control_characters: Share = 0.05  # of the texts
    nested_lists: Share = 0.1  # of the cells: turns wrapped in further lists
    lossy: Share = 0.0  # of the texts: cut, or words overwritten; can't be repaired


class CleanParams(Section):
    """Reading votes. Switches change texts, never which rows, groups or folds there are."""

    utf8: bool = True  # repair mojibake, entities of non-ASCII letters and control characters
    flatten: bool = True  # turn JSON lists into marked turns; off, the JSON source is the text
    near_duplicate: Annotated[Number, Field(gt=0, le=1)] = 0.8  # Jaccard similarity of one group
    max_bad_share: Share = 0.02  # share of unusable rows that stops the run


class TokenizeParams(Section):  # of the BPE trained for the small backbones
    vocab_size: Annotated[Whole, Field(ge=300, le=10**6)] = 1_800


class WindowsParams(Section):  # of answers that don't fit: each shows another slice of them
    most: Annotated[Count, Field(le=1_000)] = 3  # 1: off, answers are cut
    stride: Annotated[Number, Field(gt=0, le=1)] = 0.5  # of a slice, to the next one's beginning
    train: bool = True  # show a keyed window each epoch; false: always the first


# The longest parts lose their ends; or what answers keep; or the same share of each part.
Truncation = Literal["longest_first", "head", "tail", "head_tail", "proportional"]


class TextParams(Section):  # of pairs longer than model.max_length
    truncation: Truncation = "longest_first"  # docs/experiments.md
    windows: WindowsParams = WindowsParams()


class AugmentParams(Section):
    ab: bool = True  # show the model pairs in both orders
    mode: Literal["random", "both"] = "both"  # one keyed order a pair and epoch, or both in a step


Attention = Literal["auto", "eager", "fused"]
Member = Literal["classifier", "reward", "features"]
POINTWISE: frozenset[Member] = frozenset({"reward"})  # read each answer alone: order-free
Precision = Literal["auto", "fp32", "bf16", "fp16"]


class LoraParams(Section):  # low-rank adapters instead of the whole backbone: model/lora.py
    r: Annotated[Whole, Field(ge=0, le=1024)] = 0  # rank; 0: no adapters, everything is trained
    alpha: Count = 16  # adapters are scaled by alpha / r
    dropout: Annotated[Number, Field(ge=0, lt=1)] = 0.05
    targets: Literal["auto"] | tuple[Text, ...] = "auto"  # layers' last names; auto: all linear
    merge: bool = False  # save the whole model with the adapters added, instead of them alone


class ModelParams(Section):
    backbone: Text = BAG  # or SMALL, both from random weights; or a hub name or a local folder
    revision: Text = "main"  # branch, tag or commit of a hub name
    pooling: Literal["spans", "cls"] = "spans"  # means of prompt, A, B; or the backbone's head
    features: bool = False  # the head of spans is told what can be counted in each answer
    max_length: Annotated[Whole, Field(ge=16, le=10**6)] = 512  # tokens in a composed pair
    hidden_size: Annotated[Whole, Field(ge=8, le=10**6)] = 32  # of both small ones
    layers: Count = 1  # of small-deberta-v2
    groups: Count = 8  # of small-bag: sets of word weights; hidden_size is a multiple of them
    lora: LoraParams = LoraParams()
    quantize: Literal["none", "8bit", "4bit"] = "none"  # frozen weights, below adapters
    attention: Attention = "auto"  # see model/attention.py
    dropout: Annotated[Number, Field(ge=0, lt=1)] = 0.2  # of both; small-bag leaves out words
    lr_multiplier: Positive = 1_500  # of both: train.lr is for pretrained weights


class TrainParams(Section):
    epochs: Count = 3
    lr: Annotated[Number, Field(gt=0, lt=1)] = 2e-5  # peak learning rate, for pretrained weights
    scheduler: Literal["linear", "cosine", "constant"] = "linear"  # after the warm-up
    warmup: Share = 0.05  # share of the steps in which the learning rate rises from 0 to its peak
    batch_size: Count = 64  # pairs in a step of all processes together; both orders count once
    gradient_accumulation_steps: Count = 1  # parts of a process's share of a step, to save memory
    weight_decay: Annotated[Number, Field(ge=0)] = 0.01
    max_grad_norm: Positive = 1.0  # longer gradients are scaled down to it
    class_weights: bool = False  # weigh votes by the rarity of their label; p is corrected
    patience: Count | None = 1  # epochs without a better log loss before training stops
    min_delta: Annotated[Number, Field(ge=0)] = 0.0  # smaller improvements of it don't count
    resume: bool = True  # continue from work/; false starts over
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    threads: Processors = 1  # of a training process; another number changes the last bits
    exact: Literal["auto"] | bool = "auto"  # bits as in an undisturbed run; auto: not on a GPU
    precision: Precision = "auto"  # of products; auto: bf16 or fp16 on a GPU, fp32 elsewhere
    arguments: dict[str, Any] = {}  # further arguments of Hugging Face's Trainer, by its names


class OofParams(Section):
    enabled: bool = True  # export out-of-fold probabilities
    folds: Count = 5  # how many of data.folds are trained, fold 0 included


class FusionParams(Section):
    members: Annotated[  # kinds of model that answer: model/reward.py, model/experts.py
        tuple[Member, ...],
        plain(
            "expected classifier, and reward and features beside it if you like, each once",
            lambda m: "classifier" in m and len({*m}) == len(m),
        ),
    ] = ("classifier", "reward", "features")


class CalibrateParams(Section):
    method: Literal["none", "temperature", "temperature_tie"] = "temperature"


class InferenceParams(Section):
    dual_order: bool = True  # average both orders of every pair
    max_length: Literal["trained"] | Annotated[Whole, Field(ge=16, le=10**6)] = "trained"

    @property
    def other_length(self) -> int | None:
        """Tokens of a pair, if not model.max_length."""
        return None if self.max_length == "trained" else self.max_length


class PredictParams(Section):
    batch_size: Count = 64  # sequences in a forward pass
    precision: Precision = "auto"  # as train.precision


class ReportParams(Section):
    cuts: Annotated[  # tokens of a short and a medium pair
        Literal["thirds"] | tuple[Count, Count],
        plain("expected thirds or two rising counts", lambda c: c == "thirds" or c[0] < c[1]),
    ] = "thirds"


class ParallelParams(Section):  # where folds and shards of text run; changes nothing but the time
    backend: Literal["loky", "ray"] = "loky"  # on this machine, or on a Ray cluster
    jobs: Processors = 2  # processes; 1: the stage's own, whatever the backend


class Params(Section):
    data: DataParams = DataParams()
    simulate: SimulateParams = SimulateParams()
    clean: CleanParams = CleanParams()
    tokenize: TokenizeParams = TokenizeParams()
    text: TextParams = TextParams()
    augment: AugmentParams = AugmentParams()
    model: ModelParams = ModelParams()
    train: TrainParams = TrainParams()
    oof: OofParams = OofParams()
    fusion: FusionParams = FusionParams()
    calibrate: CalibrateParams = CalibrateParams()
    inference: InferenceParams = InferenceParams()
    predict: PredictParams = PredictParams()
    report: ReportParams = ReportParams()
    parallel: ParallelParams = ParallelParams()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        model, hidden, groups = self.model, self.model.hidden_size, self.model.groups
        if (trained := self.oof.folds) > self.data.folds:
            raise ValueError(f"oof.folds is {trained}, more than data.folds = {self.data.folds}")
        if model.quantize != "none" and not model.lora.r:
            raise ValueError("model.quantize freezes the weights: it needs model.lora.r above 0")
        if model.backbone in BUILT_IN and model.lora.r:
            raise ValueError(f"model.lora adapts published backbones; {model.backbone} has none")
        if model.backbone == BAG and hidden % groups:
            raise ValueError(
                f"model.hidden_size is {hidden}; {BAG} needs a multiple of model.groups, {groups}"
            )
        if model.backbone == BAG and model.pooling == "cls":
            raise ValueError(f"model.pooling=cls is for transformers, not {BAG}")
        if model.features and model.pooling == "cls":
            raise ValueError("model.features goes into the head of model.pooling=spans, not of cls")
        for name in ("activation_checkpointing", "gradient_checkpointing", "neftune_noise_alpha"):
            if model.backbone == BAG and self.train.arguments.get(name) not in (None, False):
                raise ValueError(f"train.arguments.{name} is for transformers, not {BAG}")
        if len(set(self.train.seeds)) < len(self.train.seeds):
            raise ValueError(f"train.seeds names a seed twice: {list(self.train.seeds)}")
        return self


def load(path: Path | str = PARAMS) -> Params:
    """Read and check a params file; a key that is missing has its default.

    Raises:
        UserError: the file is missing, is not YAML, or has a key or value that is not allowed.
    """
    return read(Path(path), Params)


def for_dvc(raw: dict[str, Any], stages: dict[str, Any]) -> None:
    """Refuse params that DVC, which reads the file by itself, lacks or finds null; UserError."""
    given, lines = flat(raw), []
    inserted = set(re.findall(r"\$\{([\w.]+)\}", str(stages)))
    tracked = {name.removesuffix(".0") for s in stages.values() for name in s.get("params", ())}
    for name in sorted(inserted | tracked):
        if name not in given | raw and not any(key.startswith(f"{name}.") for key in given):
            lines.append(f"{name} is missing, and {DVC} reads it; `git show HEAD:{PARAMS}` has it")
        elif name in inserted and given[name] is None:
            lines.append(f"{name} is null, and {DVC} inserts it: {_PATH}")
    if lines:
        raise UserError("\n".join(f"{PARAMS}: {line}" for line in lines))


def main(argv: list[str] | None = None) -> None:
    about = "Check params.yaml: a line for each key or value that is missing or can't be used."
    parser("params", about, "pairpref params").parse_args(argv)
    with command("params"):
        load()
        for_dvc(raw(PARAMS), raw(DVC)["stages"])


if __name__ == "__main__":
    main()
