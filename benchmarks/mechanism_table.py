"""What `benchmarks.mechanisms` measures: each switch, what it is for, and the sign expected of it.

Signs were written down before the first measurement.
"""

from dataclasses import dataclass, field
from typing import Any

Changes = dict[str, Any]  # dotted names of params and their values

KNOBS = SWITCHES = ("on", "off")
LOSSES = {"overclaim", "log_loss", "expected_log_loss"}  # less is better
CAPTURED = "information_captured"
RANDOM_FOLDS = "folds of single votes"  # no param: the pipeline can't be talked into it

COMMON: Changes = {
    "simulate.rows": 1500,
    "simulate.test_rows": 2000,
    "data.folds": 3,
    "oof.folds": 2,
    "train.batch_size": 16,
    "parallel.jobs": 1,
    # Without what is measured here and on by default.
    "fusion.members": ["classifier"],
    "text.windows.most": 1,
    "text.windows.train": False,
}


@dataclass(frozen=True)
class Mechanism:
    """A switch, votes with what it is for (its knob on), and votes without."""

    switch: str
    votes: str
    others: str
    with_: Changes
    knob_on: Changes
    # Of each metric the sign of the gain, knob on and off; 0: none.
    expects: dict[str, tuple[str, str]]
    without: Changes = field(default_factory=dict)
    knob_off: Changes = field(default_factory=dict)
    base: Changes = field(default_factory=dict)  # of all four
    judged: Changes = field(default_factory=dict)  # of the votes to judge by, unlike the training's


# The first answer is the better one and is favoured, in the training votes only: what a model
# learns from its place is of no use elsewhere.
_BIASED = {"simulate.better_first": 0.7, "simulate.judge.order_effect": 1.5}
_FAIR = {"simulate.better_first": 0.5, "simulate.judge.order_effect": 0.0}
_BIAS, _NO_BIAS = "A better in 70 %, and favoured", "no preference for A"
# Most long pairs don't fit, most short ones do. The last third of a long answer decides.
_LATE = {"simulate.long_answers": 1.0, "simulate.late_evidence": 1.0}
_SHORT = {"simulate.long_answers": 0.0}
_CUT = {"model.max_length": 96, "simulate.several_turns": 0.0}
_LONG_TRAINING, _SHORT_TRAINING = {"train.epochs": 12}, {"train.epochs": 2}
_DAMAGE = ("simulate.mojibake", "simulate.html_entities", "simulate.control_characters")
_LENGTH = {"simulate.judge.length": 4.0}
_NO_LENGTH = {"simulate.judge.length": 0.0}

MECHANISMS: dict[str, Mechanism] = {
    "augment": Mechanism(
        "A/B augmentation; a transformer's own head, one order judged",
        _BIAS,
        _NO_BIAS,
        with_={"augment.ab": True},
        without={"augment.ab": False},
        knob_on=_BIASED,
        judged=_FAIR,
        base={
            "model.backbone": "small-deberta-v2",
            "model.pooling": "cls",
            "model.max_length": 128,
            "model.dropout": 0.0,
            "model.lr_multiplier": 70,
            "train.batch_size": 8,
            "inference.dual_order": False,
            "oof.folds": 1,
        },
        expects={CAPTURED: ("+", "+")},  # off: both orders are twice the pairs
    ),
    "dual_order": Mechanism(
        "both orders averaged, without augmentation",
        _BIAS,
        _NO_BIAS,
        with_={"inference.dual_order": True},
        without={"inference.dual_order": False},
        knob_on=_BIASED,
        judged=_FAIR,
        base={"augment.ab": False},
        expects={CAPTURED: ("+", "+")},  # off: a mean of two answers
    ),
    "dual_order_augmented": Mechanism(
        "both orders averaged, after augmentation",
        _BIAS,
        _NO_BIAS,
        with_={"inference.dual_order": True},
        without={"inference.dual_order": False},
        knob_on=_BIASED,
        judged=_FAIR,
        base={"augment.ab": True},
        expects={CAPTURED: ("0", "0")},  # nothing is left to average away
    ),
    "windows": Mechanism(
        "up to 4 windows",
        "long answers, evidence last",
        "answers that fit",
        with_={"text.windows.most": 4, "text.windows.train": True},
        knob_on=_LATE,
        knob_off=_SHORT,
        base=_CUT,
        expects={CAPTURED: ("+", "0")},
    ),
    "tail": Mechanism(
        "answers keep their ends",
        "long answers, evidence last",
        "answers that fit",
        with_={"text.truncation": "tail"},
        knob_on=_LATE,
        knob_off=_SHORT,
        base=_CUT,
        expects={CAPTURED: ("+", "0")},
    ),
    "class_weights": Mechanism(
        "class weights",
        "ties are rare",
        "as many ties as usual",
        with_={"train.class_weights": True},
        knob_on={"simulate.judge.tie": -2.0},
        # Probabilities are corrected for the weights, so the most likely label is hardly another.
        expects={"f1_macro": ("0", "0"), "expected_log_loss": ("0", "0")},
    ),
    "features": Mechanism(
        "member features",
        "long answers win",
        "length is of no interest",
        with_={"fusion.members": ["classifier", "features"]},
        knob_on=_LENGTH,
        knob_off=_NO_LENGTH,
        expects={CAPTURED: ("+", "0")},
    ),
    "reward": Mechanism(
        "member reward",
        "long answers win",
        "length is of no interest",
        with_={"fusion.members": ["classifier", "reward"]},
        knob_on=_LENGTH,
        knob_off=_NO_LENGTH,
        expects={CAPTURED: ("+", "+")},  # the voter judges each answer by itself in both
    ),
    "utf8": Mechanism(
        "UTF-8 cleaning",
        "half of the texts damaged in each of three ways",
        "no damage",
        with_={"clean.utf8": True},
        without={"clean.utf8": False},
        knob_on=dict.fromkeys(_DAMAGE, 0.5),
        knob_off=dict.fromkeys(_DAMAGE, 0.0),
        expects={CAPTURED: ("+", "0")},
    ),
    "flatten": Mechanism(
        "list flattening",
        "half of the cells nested",
        "plain lists",
        with_={"clean.flatten": True},
        without={"clean.flatten": False},
        knob_on={"simulate.nested_lists": 0.5},
        knob_off={"simulate.nested_lists": 0.0},
        expects={CAPTURED: ("+", "+")},  # off: there are still brackets and escapes
    ),
    "grouped_folds": Mechanism(
        "folds grouped by prompt, instead of random ones",
        "all prompts of 200",
        "no prompt twice",
        with_={},
        without={RANDOM_FOLDS: True},
        knob_on={"simulate.repeated_prompts": 1.0},
        knob_off={"simulate.repeated_prompts": 0.0},
        judged={"simulate.repeated_prompts": 0.0},
        expects={"claimed": ("-", "0"), "overclaim": ("+", "0")},
    ),
    "temperature": Mechanism(
        "temperature",
        "12 epochs",
        "2 epochs",
        with_={"calibrate.method": "temperature"},
        without={"calibrate.method": "none"},
        knob_on=_LONG_TRAINING,
        knob_off=_SHORT_TRAINING,
        base={"train.patience": None, "oof.folds": 1},  # one model: no mean to sharpen
        expects={CAPTURED: ("+", "0")},
    ),
    "early_stopping": Mechanism(
        "early stopping, with a temperature",
        "12 epochs",
        "2 epochs",
        with_={"train.patience": 1},
        without={"train.patience": None},
        knob_on=_LONG_TRAINING,
        knob_off=_SHORT_TRAINING,
        expects={CAPTURED: ("+", "0")},
    ),
    "early_stopping_alone": Mechanism(
        "early stopping, without one",
        "12 epochs",
        "2 epochs",
        with_={"train.patience": 1},
        without={"train.patience": None},
        knob_on=_LONG_TRAINING,
        knob_off=_SHORT_TRAINING,
        base={"calibrate.method": "none"},
        expects={CAPTURED: ("+", "0")},
    ),
}
