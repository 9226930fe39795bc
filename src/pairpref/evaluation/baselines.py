"""Simple answers that a model must beat, each cross-fitted over the model's own folds.

A baseline takes pairs, a frame of all votes with the columns prompt, response_a, response_b, label
(0 = A, 1 = B, 2 = tie) and fold, and returns probabilities of A, B and tie; shape (n, 3).
docs/architecture.md says how to add one.
"""

import re
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, vstack
from sklearn.base import ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from pairpref.pairs import LABELS, TEXTS

_WORD = re.compile(r"\w+")
_MARKS = {
    "punctuation": re.compile(r"[^\w\s]"),
    "newlines": re.compile(r"\n"),
    "code": re.compile(r"```|[{}<>=;_]|\(\)"),
    "digits": re.compile(r"[0-9]"),
    "capitals": re.compile(r"[A-Z]"),
    "non_ascii": re.compile(r"[^\x00-\x7f]"),
}
_COUNTED = ("newlines", "code")
_MOST_WORDS, _FEWEST_TEXTS = 20_000, 2  # of the TF-IDF vocabulary; answers that a word must be in


def uniform(pairs: pd.DataFrame) -> np.ndarray:
    """A third each."""
    return np.full((len(pairs), len(LABELS)), 1 / len(LABELS))


def class_prior(pairs: pd.DataFrame) -> np.ndarray:
    """The shares of A, B and tie among the votes of the other folds."""
    return _cross_fitted(DummyClassifier(strategy="prior"), np.zeros((len(pairs), 1)), pairs)


def length_only(pairs: pd.DataFrame) -> np.ndarray:
    """Multinomial logistic regression on the lengths alone."""
    model = make_pipeline(StandardScaler(), LogisticRegression())
    return _cross_fitted(model, length_features(pairs), pairs)


def length_features(pairs: pd.DataFrame) -> np.ndarray:
    """log(1 + characters) of prompt, A and B, and |log A − log B| (for ties); shape (n, 4)."""
    lengths = [pairs[name].str.len().fillna(0).to_numpy(dtype=np.float64) for name in TEXTS]
    prompt, a, b = np.log1p(lengths)
    return np.column_stack([prompt, a, b, np.abs(a - b)])


def tfidf(pairs: pd.DataFrame, strengths: Sequence[float] = (1.0, 0.1, 0.3, 3.0)) -> np.ndarray:
    """Multinomial logistic regression on the TF-IDF of A's words minus that of B's.

    Vocabulary, document frequencies, weights and regularisation come from the other folds.

    Args:
        strengths: values of scikit-learn's C, chosen by log loss on one of the other folds; with
            two folds the first is taken.
    """
    a, b = _word_counts(pairs)
    labels, folds = pairs["label"].to_numpy(), pairs["fold"].to_numpy()
    p = np.zeros((len(pairs), len(LABELS)))
    with threadpool_limits(1):
        for fold in np.unique(folds):
            rest, judged = folds != fold, folds == fold
            x = _difference(a, b, rest)
            strength = _best_strength(x[rest], labels[rest], folds[rest], strengths)
            p[judged] = _predicted(x[rest], labels[rest], x[judged], strength)
    return p


def _word_counts(pairs: pd.DataFrame) -> tuple[csr_matrix, csr_matrix]:
    """How often each word is in A, and in B; shape (n, words) each."""
    texts = pd.concat([pairs[name].fillna("") for name in TEXTS[1:]])
    try:
        counts = CountVectorizer(token_pattern=_WORD.pattern, dtype=np.float64).fit_transform(texts)
    except ValueError:
        counts = csr_matrix((len(texts), 0))  # no text has a word
    return counts[: len(pairs)], counts[len(pairs) :]


def _difference(a: csr_matrix, b: csr_matrix, rows: np.ndarray) -> csr_matrix:
    """TF-IDF of A minus B; vocabulary and document frequencies from the given rows."""
    seen = vstack([a[rows], b[rows]]).tocsc()
    commonest = np.argsort(-np.asarray(seen.sum(axis=0)).ravel(), kind="stable")
    kept = np.sort(commonest[np.diff(seen.indptr)[commonest] >= _FEWEST_TEXTS][:_MOST_WORDS])
    if not len(kept):
        return csr_matrix((a.shape[0], 0))
    weights = TfidfTransformer(sublinear_tf=True).fit(seen[:, kept])
    return weights.transform(a[:, kept]) - weights.transform(b[:, kept])


def _best_strength(
    x: csr_matrix, labels: np.ndarray, folds: np.ndarray, strengths: Sequence[float]
) -> float:
    held_out = folds == folds.min()
    if held_out.all() or len(strengths) == 1:
        return strengths[0]

    def loss(strength: float) -> float:
        p = _predicted(x[~held_out], labels[~held_out], x[held_out], strength)
        return log_loss(labels[held_out], p, labels=range(len(LABELS)))

    return min(strengths, key=loss)


def _predicted(
    x: csr_matrix, labels: np.ndarray, judged: csr_matrix, strength: float
) -> np.ndarray:
    """Probabilities of the judged rows by a regression on the others; without words, the shares."""
    regression = LogisticRegression(C=strength, max_iter=1000, tol=1e-3)
    model = (regression if x.shape[1] else DummyClassifier(strategy="prior")).fit(x, labels)
    p = np.zeros((judged.shape[0], len(LABELS)))
    p[:, model.classes_] = model.predict_proba(judged)
    return p


def boosting(pairs: pd.DataFrame) -> np.ndarray:
    """Gradient-boosted trees on `plain_features`."""
    trees = HistGradientBoostingClassifier(learning_rate=0.05, max_leaf_nodes=15, random_state=0)
    return _cross_fitted(trees, plain_features(pairs).to_numpy(), pairs)


def plain_features(pairs: pd.DataFrame) -> pd.DataFrame:
    """What can be counted in a pair without knowing a word; a column a feature, n rows.

    Log lengths of the prompt; share of words that A and B have in common; and of A, and as the
    difference A − B: log lengths, share of distinct words, overlap with the prompt in both
    directions, and how often each of `_MARKS` occurs (newlines and code as log counts).
    """
    rows = zip(*(pairs[name].fillna("") for name in TEXTS), strict=True)
    return pd.DataFrame([_plain(*texts) for texts in rows], index=pairs.index)


def _plain(prompt: str, a: str, b: str) -> dict[str, float]:
    asked, said_a, said_b = (list(map(str.lower, _WORD.findall(t))) for t in (prompt, a, b))
    of_a, of_b = _of_answer(a, said_a, set(asked)), _of_answer(b, said_b, set(asked))
    return {
        "prompt_characters": np.log1p(len(prompt)),
        "prompt_words": np.log1p(len(asked)),
        "in_common": _share(len({*said_a} & {*said_b}), len({*said_a, *said_b})),
        **{f"{name}_a": value for name, value in of_a.items()},
        **{f"{name}_difference": value - of_b[name] for name, value in of_a.items()},
    }


def _of_answer(text: str, words: list[str], asked: set[str]) -> dict[str, float]:
    unique = set(words)
    marks = {}
    for name, mark in _MARKS.items():
        n = len(mark.findall(text))
        marks[name] = np.log1p(n) if name in _COUNTED else _share(n, len(text))
    return {
        "characters": np.log1p(len(text)),
        "words": np.log1p(len(words)),
        "unique": _share(len(unique), len(words)),
        "in_prompt": _share(sum(word in asked for word in words), len(words)),
        "of_prompt": _share(len(unique & asked), len(asked)),
        **marks,
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _cross_fitted(estimator: ClassifierMixin, x: np.ndarray, pairs: pd.DataFrame) -> np.ndarray:
    p = np.zeros((len(pairs), len(LABELS)))
    # Iterations are so short that a second thread slows them down, and much more on a busy machine.
    across = {"groups": pairs["fold"], "cv": LeaveOneGroupOut(), "method": "predict_proba"}
    with threadpool_limits(1):
        found = cross_val_predict(estimator, x, pairs["label"], **across)
    p[:, np.unique(pairs["label"])] = found  # votes without ties have two columns
    return p


BASELINES: dict[str, Callable[[pd.DataFrame], np.ndarray]] = {
    baseline.__name__: baseline for baseline in (uniform, class_prior, length_only, tfidf, boosting)
}
