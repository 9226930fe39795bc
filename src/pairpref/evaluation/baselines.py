"""What a model must beat to have learned anything: answers that read less than it does, cross-fitted over the model's own folds."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, vstack
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
    """A third each; shape (n, 3)."""
    return np.full((len(pairs), len(LABELS)), 1 / len(LABELS))


def class_prior(pairs: pd.DataFrame) -> np.ndarray:
    """The shares of A, B and tie among the votes of the other folds; shape (n, 3).

    Args:
        pairs: columns label and fold, all rows of all folds.
    """
    return _cross_fitted(DummyClassifier(strategy="prior"), np.zeros((len(pairs), 1)), pairs)


def length_only(pairs: pd.DataFrame) -> np.ndarray:
    """Multinomial logistic regression on the lengths alone, fitted on the other folds; shape (n, 3).

    Args:
        pairs: columns prompt, response_a, response_b, label and fold, all rows of all folds.
    """
    return _cross_fitted(
        make_pipeline(StandardScaler(), LogisticRegression()), length_features(pairs), pairs
    )


def length_features(pairs: pd.DataFrame) -> np.ndarray:
    """log(1 + characters) of prompt, A and B, and |log A − log B|, which is what a tie depends on; shape (n, 4)."""
    prompt, a, b = (
        np.log1p(pairs[name].str.len().fillna(0).to_numpy(dtype=np.float64)) for name in TEXTS
    )
    return np.column_stack([prompt, a, b, np.abs(a - b)])


def tfidf(pairs: pd.DataFrame, strengths: Sequence[float] = (1.0, 0.1, 0.3, 3.0)) -> np.ndarray:
    """Multinomial logistic regression on the TF-IDF of A's words minus that of B's; shape (n, 3).

    Vocabulary, document frequencies, weights and their strength all come from the other folds. The
    strength is chosen by log loss on one of them, after a fit on the rest of them.

    Args:
        pairs: columns response_a, response_b, label and fold, all rows of all folds.
        strengths: values of scikit-learn's C to choose from; with two folds the first is taken.
    """
    a, b = _word_counts(pairs)
    labels, folds, p = (
        pairs["label"].to_numpy(),
        pairs["fold"].to_numpy(),
        np.zeros((len(pairs), len(LABELS))),
    )
    with threadpool_limits(1):
        for fold in np.unique(folds):
            rest, judged = folds != fold, folds == fold
            x = _difference(a, b, rest)
            strength = _best_strength(x[rest], labels[rest], folds[rest], strengths)
            model = _regression(x[rest], labels[rest], strength)
            p[np.ix_(judged, model.classes_)] = model.predict_proba(x[judged])
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
    """TF-IDF of A's words minus B's, for the commonest words of some rows and by their document frequencies."""
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
        model = _regression(x[~held_out], labels[~held_out], strength)
        p = np.zeros((held_out.sum(), len(LABELS)))
        p[:, model.classes_] = model.predict_proba(x[held_out])
        return log_loss(labels[held_out], p, labels=range(len(LABELS)))

    return min(strengths, key=loss)


def _regression(
    x: csr_matrix, labels: np.ndarray, strength: float
) -> LogisticRegression | DummyClassifier:
    shares = DummyClassifier(strategy="prior")  # where there is no word to go by
    return (LogisticRegression(C=strength, max_iter=1000, tol=1e-3) if x.shape[1] else shares).fit(
        x, labels
    )


def boosting(pairs: pd.DataFrame) -> np.ndarray:
    """Gradient-boosted trees on `plain_features`, fitted on the other folds; shape (n, 3).

    Args:
        pairs: columns prompt, response_a, response_b, label and fold, all rows of all folds.
    """
    trees = HistGradientBoostingClassifier(learning_rate=0.05, max_leaf_nodes=15, random_state=0)
    return _cross_fitted(trees, plain_features(pairs).to_numpy(), pairs)


def plain_features(pairs: pd.DataFrame) -> pd.DataFrame:
    """What can be counted in a pair without knowing a word; a column a feature, n rows.

    Of A, and as the difference A − B: log lengths in characters and words, share of different words, share of its words that are in
    the prompt and of the prompt's words that are in it, and how often each of `_MARKS` occurs (per character; newlines and code
    as log counts). Further log lengths of the prompt, and the share of words that A and B have in common.
    """
    rows = zip(*(pairs[name].fillna("") for name in TEXTS), strict=True)
    return pd.DataFrame([_plain(*texts) for texts in rows], index=pairs.index)


def _plain(prompt: str, a: str, b: str) -> dict[str, float]:
    asked, said_a, said_b = (
        [word.lower() for word in _WORD.findall(text)] for text in (prompt, a, b)
    )
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
    counts = {name: len(mark.findall(text)) for name, mark in _MARKS.items()}
    return {
        "characters": np.log1p(len(text)),
        "words": np.log1p(len(words)),
        "unique": _share(len(unique), len(words)),
        "in_prompt": _share(sum(word in asked for word in words), len(words)),
        "of_prompt": _share(len(unique & asked), len(asked)),
        **{
            name: np.log1p(n) if name in _COUNTED else _share(n, len(text))
            for name, n in counts.items()
        },
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _cross_fitted(estimator, x: np.ndarray | csr_matrix, pairs: pd.DataFrame) -> np.ndarray:
    p = np.zeros((len(pairs), len(LABELS)))
    # So little work an iteration that a second thread makes it slower, and twenty times so on a busy machine.
    with threadpool_limits(1):
        # A column for each label that occurs: votes without ties never have one.
        p[:, np.unique(pairs["label"])] = cross_val_predict(
            estimator,
            x,
            pairs["label"],
            groups=pairs["fold"],
            cv=LeaveOneGroupOut(),
            method="predict_proba",
        )
    return p


YARDSTICKS = {
    "uniform": uniform,
    "class_prior": class_prior,
    "length_only": length_only,
    "tfidf": tfidf,
    "boosting": boosting,
}
