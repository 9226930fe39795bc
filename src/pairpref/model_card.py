"""README.md of an exported model: how to use it, what it was trained on, and how good it is.

It is made from dvc.lock, which has params and votes of what ran, and from the tables in data/. Its
figures are those of the one model on the votes of its fold, which it was not trained on.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from huggingface_hub import EvalResult, ModelCardData

from pairpref import paths
from pairpref.errors import UserError
from pairpref.evaluation import buckets, intervals, metrics, position, reliability
from pairpref.evaluation import sufficient_statistics as sums
from pairpref.evaluation.calibration import Calibrator, cross_fitted
from pairpref.model.inference_config import InferenceConfig
from pairpref.pairs import PROBABILITIES
from pairpref.params import BUILT_IN, in_arena
from pairpref.reporting.page import environment, plain
from pairpref.text import tokens as token_files
from pairpref.text.compose import composed_lengths
from pairpref.text.tokenizer import Template
from pairpref.text.tokens import Tokens
from pairpref.typed_yaml import flat, raw
from pairpref.versions.git import described

_TEMPLATE = Path(__file__).with_name("model_card.md.j2")
_LOCK = Path("dvc.lock")
_STAGES = ("clean", "tokenize", "train", "oof")  # what a model depends on
_BINS = 15  # of equal mass, in the calibration error
_METRICS = {
    "log_loss": "log_loss",
    "accuracy": "accuracy",
    "f1": "f1_macro",
    "brier_score": "brier",
}


@dataclass(frozen=True)
class Run:
    """What a run recorded of one model and of its member's others."""

    fold: int
    folds: int  # of the member, trained
    config: InferenceConfig
    template: Template
    table: Path  # where the member's out-of-fold probabilities are
    # Of all folds: id, fold, label, p_…, group, turns, tokens of the pair, tokens read at once; of
    # the classifier also the probabilities of each order.
    rows: pd.DataFrame
    tokens: Tokens  # of all votes
    params: dict[str, Any]  # by dotted names, as the stages ran
    md5: str  # of the file of votes

    @classmethod
    def read(cls, fold: int, folds: int, config: InferenceConfig, template: Template) -> Self:
        """Read dvc.lock and the tables of the repository this runs in.

        Raises:
            UserError: something is missing, or of other votes.
        """
        recorded = _recorded()
        for path in (paths.UNCALIBRATED, paths.MEMBERS, paths.PAIRS, paths.TOKENS):
            if not path.exists():
                raise UserError(
                    f"{path}: missing, and the model card is made from it. Export where `dvc "
                    "repro` has trained the models, or get it with `dvc checkout`."
                )
        table, rows = _rows(config)
        tokens = token_files.load(paths.TOKENS)
        parts = np.stack([np.diff(offsets) for _, offsets in tokens.parts])
        lengths = composed_lengths(parts.sum(axis=0), tokens.single, template)
        # A reward model reads prompt and one answer: the separator of the other is not there.
        alone = composed_lengths(parts[0] + parts[1:].max(axis=0), tokens.single, template) - 1
        read = alone if config.member == "reward" else lengths
        lengths = pd.DataFrame({"id": tokens.ids, "tokens": lengths, "read": read})
        known = pd.read_parquet(paths.PAIRS, columns=["id", "group", "turns"])
        known = known.merge(lengths, on="id")
        merged = rows.merge(known, on="id", validate="1:1")
        if len(merged) < len(rows) or fold not in set(rows["fold"]):
            raise UserError(f"{table} and {paths.TOKENS} are of different votes. Run `dvc repro`.")
        return cls(fold, folds, config, template, table, merged, tokens, *recorded)

    @property
    def held_out(self) -> np.ndarray:
        """Which rows the model was not trained on; shape (n,)."""
        return (self.rows["fold"] == self.fold).to_numpy()

    def sample(self, count: int) -> tuple[Tokens, np.ndarray]:
        """Some held-out votes, from the shortest to the longest, and their p of shape (n, 3)."""
        rows = self.rows[self.held_out].sort_values("tokens", kind="stable")
        rows = rows.iloc[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)]
        place = pd.Series(np.arange(len(self.tokens)), index=self.tokens.ids)
        return self.tokens.take(place[rows["id"]].to_numpy()), metrics.probabilities(rows)

    def card(
        self, name: str, line_break: str, segments: bool, tie: float | None, chat: bool
    ) -> str:
        """The card as Markdown with a YAML head.

        Args:
            name: of the folder.
            line_break: what a line break is written as before it is tokenised.
            segments: whether the model is given token types.
            tie: c of a reward model's ties.
            chat: whether a chat template composes a reward model's input.
        """
        found, votes = self._figures(), self._votes()
        head = self._head(name, found, votes).to_yaml()
        text = environment(False).from_string(_TEMPLATE.read_text(encoding="utf-8"))
        return text.render(
            head=head,
            name=name,
            fold=self.fold,
            folds=self.folds,
            config=self.config,
            template=self.template,
            line_break=line_break,
            segments=segments,
            tie=tie,
            chat=chat,
            weights=None if set(self.config.class_weights) == {1.0} else self.config.class_weights,
            votes=votes,
            found=found,
            params={key: plain(value) for key, value in self._shown().items()},
            commit=described(),
        )

    def _figures(self) -> dict[str, Any]:
        """Figures of the held-out votes, calibrated by the other folds."""
        rows, own = self.rows, self.held_out
        labels, p = rows["label"].to_numpy(int), metrics.probabilities(rows)
        groups, folds = rows["group"].to_numpy(), rows["fold"].to_numpy()
        after = cross_fitted(p, labels, folds, groups, "temperature")[own]
        before, labels, groups = p[own], labels[own], groups[own]
        resampled = intervals.resampled(sums.per_vote(labels, after), groups, sums.figures)
        low, high = intervals.bounds(resampled)
        lengths = rows["tokens"].to_numpy()
        kinds = {
            "length": buckets.by_length(lengths, buckets.length_cuts(lengths)),
            "turns": np.where(rows["turns"] > 1, "several", "one"),
            "truncated": np.where(rows["read"] > self.config.longest, "yes", "no"),
        }
        kinds = {kind: names[own] for kind, names in kinds.items()}
        table = buckets.table(labels, after, groups, kinds)
        orders = position.orders_of(rows[own]) if "ab_a" in rows else None
        errors = (_error(labels, q, groups) for q in (before, after))
        return {
            "scores": metrics.scores(labels, after),
            "ci": dict(zip(sums.FIGURES, zip(low, high, strict=True), strict=True)),
            "log_loss_before": metrics.scores(labels, before)["log_loss"],
            "log_loss_shares": float(metrics.losses(labels, self._shares(len(labels))).mean()),
            "calibrator": Calibrator.fit(p, rows["label"].to_numpy(int), "temperature"),
            "errors": tuple(errors),
            "cuts": buckets.length_cuts(lengths),
            "buckets": table[table["label"] == buckets.ALL].to_dict("records"),
            "orders": None if orders is None else position.by_order(labels, *orders),
        }

    def _shares(self, n: int) -> np.ndarray:
        return np.tile(np.asarray(self.config.prior), (n, 1))

    def _votes(self) -> dict[str, Any]:
        """The file of votes, and how many of them there are."""
        path = Path(self.params["data.train"])
        held_out = int((self.tokens.folds == self.fold).sum())
        return {
            "name": path.name,
            "simulated": in_arena(str(path)),
            "md5": self.md5,
            "n": len(self.tokens),
            "held_out": held_out,
        }

    def _head(self, name: str, found: dict[str, Any], votes: dict[str, Any]) -> ModelCardData:
        backbone = self.params["model.backbone"]
        published = backbone not in BUILT_IN and not Path(backbone).exists()
        data = {
            "task_type": "text-classification",
            "dataset_type": "votes",
            "dataset_name": f"{votes['name']}, fold {self.fold}, held out",
            "dataset_revision": votes["md5"],
        }
        results = [
            EvalResult(**data, metric_type=kind, metric_name=key, metric_value=found["scores"][key])
            for kind, key in _METRICS.items()
        ]
        reward = ["reward-model"] if self.config.member == "reward" else []
        return ModelCardData(
            base_model=backbone if published else None,
            library_name="transformers",
            pipeline_tag="text-classification",
            tags=["pairpref", "preference", "llm-as-a-judge", *reward],
            metrics=["accuracy", "f1"],
            model_name=name,
            eval_results=results,
        )

    def _shown(self) -> dict[str, Any]:
        """The params, with the last part alone of paths on this machine."""
        local = {"data.train": self.params["data.train"]}
        if Path(backbone := self.params["model.backbone"]).exists():
            local["model.backbone"] = backbone
        return self.params | {key: Path(path).name for key, path in local.items()}


def _recorded() -> tuple[dict[str, Any], str]:
    """Params of the stages that make a model, by dotted names, and the md5 of the votes."""
    try:
        stages = raw(_LOCK)["stages"]
        params: dict[str, Any] = {}
        for stage in _STAGES:
            params |= flat(stages[stage].get("params", {}).get("params.yaml", {}))
        deps = {entry["path"]: entry for entry in stages["clean"]["deps"]}
        params.pop("train.seeds.0", None)
        return dict(sorted(params.items())), deps[params["data.train"]]["md5"]
    except (LookupError, TypeError, AttributeError):
        raise UserError(
            f"{_LOCK} has no whole record of the stages {', '.join(_STAGES)}, from which the model "
            "card is made. Run `dvc repro`."
        ) from None


def _rows(config: InferenceConfig) -> tuple[Path, pd.DataFrame]:
    """A member's out-of-fold probabilities, of the classifier with those of each order."""
    if config.member == "reward":
        rows = pd.read_parquet(paths.MEMBERS)
        rows = rows[rows["member"] == config.member]
        return paths.MEMBERS, rows[rows["seed"] == rows["seed"].iloc[0]]
    table, rows = paths.UNCALIBRATED, pd.read_parquet(paths.UNCALIBRATED)
    if rows.empty:  # oof.enabled is off
        table, rows = paths.FOLD_0_ANSWERS, pd.read_parquet(paths.FOLD_0_ANSWERS)
    p = metrics.probabilities(metrics.answers(rows))
    return table, rows.assign(**dict(zip(PROBABILITIES, p.T, strict=True)))


def _error(labels: np.ndarray, p: np.ndarray, groups: np.ndarray) -> float:
    """Root mean square calibration error over A, B and tie."""
    errors = reliability.calibration_error(labels, p, groups, _BINS).set_index("class")["error"]
    return float(np.sqrt((errors.drop(reliability.CONFIDENCE) ** 2).mean()))
