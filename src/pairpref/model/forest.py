"""Trees that are saved as plain arrays, so that nothing is unpickled to load them.

Extremely randomised (Geurts et al. 2006, "Extremely randomized trees") or boosted (Friedman 2001,
"Greedy function approximation: a gradient boosting machine"), both grown by scikit-learn.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.special import expit

TREES = 60
# A random tree and boosting are grown on as many rows, so that more votes cost no more time.
_MOST_ROWS = 3_000
_BOOSTED_ROWS = 5_000


@dataclass(frozen=True)
class Forest:
    """Nodes of all trees, one tree after another; a leaf's `feature` is −1."""

    roots: np.ndarray  # int32, shape (trees,)
    left: np.ndarray  # int32: the node for values up to the threshold
    right: np.ndarray
    feature: np.ndarray  # int16
    threshold: np.ndarray  # float64
    value: np.ndarray  # float32: share of a leaf's rows whose target is true; boosted: log-odds
    base: np.ndarray  # float64, shape (1,): boosted: log-odds to add to; or not a number

    @classmethod
    def random(
        cls, x: np.ndarray, target: np.ndarray, fewest: int, share: float, seed: int
    ) -> Self:
        """Fit extremely randomised trees to rows of float32.

        Args:
            target: bool, shape (n,).
            fewest: rows in a leaf.
            share: of the features, tried at each split.
        """
        from sklearn.ensemble import ExtraTreesClassifier  # predictions do without it

        some = {"bootstrap": True, "max_samples": _MOST_ROWS} if len(x) > _MOST_ROWS else {}
        trees = ExtraTreesClassifier(
            TREES, min_samples_leaf=fewest, max_features=share, random_state=seed, **some
        ).fit(x, target)
        known = np.flatnonzero(trees.classes_)  # no column where the target is never true
        return cls._of(
            (
                (
                    t.children_left,
                    t.children_right,
                    t.feature,
                    t.threshold,
                    t.value[:, 0, known].sum(1),
                )
                for t in (estimator.tree_ for estimator in trees.estimators_)
            ),
            np.nan,
        )

    @classmethod
    def boosted(cls, x: np.ndarray, target: np.ndarray, seed: int) -> Self:
        """Fit boosted trees to rows of float32; `target` as for `random`."""
        if target.all() or not target.any():
            return cls.random(x, target, 1, 1.0, seed)
        from sklearn.ensemble import HistGradientBoostingClassifier

        some = np.random.default_rng(seed).permutation(len(x))[:_BOOSTED_ROWS]
        trees = HistGradientBoostingClassifier(
            learning_rate=0.08,
            max_iter=40,
            max_leaf_nodes=12,
            min_samples_leaf=15,
            l2_regularization=1.0,
            early_stopping=False,
            random_state=seed,
        ).fit(x[some], target[some])
        nodes = [stage[0].nodes for stage in trees._predictors]
        return cls._of(
            (
                (
                    n["left"],
                    n["right"],
                    np.where(n["is_leaf"], -1, n["feature_idx"]),
                    n["num_threshold"],
                    n["value"],
                )
                for n in nodes
            ),
            float(trees._baseline_prediction.item()),
        )

    @classmethod
    def _of(cls, trees: Iterable[tuple[np.ndarray, ...]], base: float) -> Self:
        trees = list(trees)
        roots = np.cumsum([0, *(len(tree[0]) for tree in trees)])[:-1]
        left, right = (
            np.concatenate([tree[side] + root for tree, root in zip(trees, roots, strict=True)])
            for side in (0, 1)
        )
        feature, threshold, value = (
            np.concatenate(of) for of in list(zip(*trees, strict=True))[2:]
        )
        return cls(
            roots.astype(np.int32),
            left.astype(np.int32),
            right.astype(np.int32),
            np.maximum(feature, -1).astype(np.int16),
            threshold.astype(np.float64),
            value.astype(np.float32),
            np.array([base]),
        )

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Probability that the target is true; float64, shape (n,)."""
        total, rows = np.zeros(len(x)), np.arange(len(x))
        for root in self.roots:
            at = np.full(len(x), root)
            while len(deeper := rows[self.feature[at] >= 0]):
                node = at[deeper]
                goes_left = x[deeper, self.feature[node]] <= self.threshold[node]
                at[deeper] = np.where(goes_left, self.left[node], self.right[node])
            total += self.value[at]
        base = self.base.item()
        return total / len(self.roots) if np.isnan(base) else expit(base + total)
