"""Extremely randomised trees that are saved as plain arrays: nothing is unpickled to load them.

Geurts et al. 2006, "Extremely randomized trees", grown by scikit-learn.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier

TREES = 100
_MOST_ROWS = 5_000  # that a tree is grown on, so that more votes cost no more time


@dataclass(frozen=True)
class Forest:
    """Nodes of all trees, one tree after another; a leaf's `feature` is −1."""

    roots: np.ndarray  # int32, shape (trees,)
    left: np.ndarray  # int32: the node for values up to the threshold; of a leaf, itself
    right: np.ndarray
    feature: np.ndarray  # int16
    threshold: np.ndarray  # float64
    value: np.ndarray  # float32: the share of the rows in a node whose target is true

    @classmethod
    def grow(cls, x: np.ndarray, target: np.ndarray, fewest: int, share: float, seed: int) -> Self:
        """Fit to rows of float32.

        Args:
            target: bool, shape (n,).
            fewest: rows in a leaf.
            share: of the features, tried at each split.
        """
        some = {"bootstrap": True, "max_samples": _MOST_ROWS} if len(x) > _MOST_ROWS else {}
        forest = ExtraTreesClassifier(
            TREES, min_samples_leaf=fewest, max_features=share, random_state=seed, **some
        )
        trees = [estimator.tree_ for estimator in forest.fit(x, target).estimators_]
        roots = np.cumsum([0, *(tree.node_count for tree in trees)])
        parts = zip(roots.tolist(), trees, strict=False)
        known = [forest.classes_.tolist().index(True)] if True in forest.classes_ else []
        nodes = [
            (
                np.where(tree.feature < 0, np.arange(tree.node_count), tree.children_left) + root,
                np.where(tree.feature < 0, np.arange(tree.node_count), tree.children_right) + root,
                tree.feature,
                tree.threshold,
                tree.value[:, 0, known].sum(axis=1),
            )
            for root, tree in parts
        ]
        types = (np.int32, np.int32, np.int16, np.float64, np.float32)
        columns = (
            np.concatenate(c).astype(t)
            for c, t in zip(zip(*nodes, strict=True), types, strict=True)
        )
        return cls(roots[:-1].astype(np.int32), *columns)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Mean over the trees; float64, shape (n,)."""
        total = np.zeros(len(x))
        rows = np.arange(len(x))
        for root in self.roots:
            at = np.full(len(x), root)
            while len(deeper := rows[self.feature[at] >= 0]):
                node = at[deeper]
                goes_left = x[deeper, self.feature[node]] <= self.threshold[node]
                at[deeper] = np.where(goes_left, self.left[node], self.right[node])
            total += self.value[at]
        return total / len(self.roots)
