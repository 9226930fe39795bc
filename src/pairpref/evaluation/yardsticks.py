"""What a model must beat to have learned anything: answers that read less than it does, cross-fitted over the model's own folds."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
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
    return _cross_fitted(make_pipeline(StandardScaler(), LogisticRegression()), length_features(pairs), pairs)


def length_features(pairs: pd.DataFrame) -> np.ndarray:
    """log(1 + characters) of prompt, A and B, and |log A − log B|, which is what a tie depends on; shape (n, 4)."""
    prompt, a, b = (np.log1p(pairs[name].str.len().fillna(0).to_numpy(dtype=np.float64)) for name in TEXTS)
    return np.column_stack([prompt, a, b, np.abs(a - b)])


def tfidf(pairs: pd.DataFrame, strengths: Sequence[float] = (0.1, 0.3, 1.0, 3.0)) -> np.ndarray:
    """Multinomial logistic regression on the TF-IDF of A's words minus that of B's; shape (n, 3).

    Favoured on purpose: the vocabulary is that of all rows, and the strength is the best by log loss on the very rows it predicts.

    Args:
        pairs: columns response_a, response_b, label and fold, all rows of all folds.
        strengths: values of scikit-learn's C to choose from.
    """
    a, b = (pairs[name].fillna("") for name in TEXTS[1:])
    words = TfidfVectorizer(token_pattern=_WORD.pattern, min_df=2, max_features=20_000, sublinear_tf=True)
    try:
        words.fit(pd.concat([a, b]))
    except ValueError:
        return class_prior(pairs)  # no word occurs twice: nothing to go by
    difference = words.transform(a) - words.transform(b)
    tried = (_cross_fitted(LogisticRegression(C=c, max_iter=1000, tol=1e-3), difference, pairs) for c in strengths)
    return min(tried, key=lambda p: log_loss(pairs["label"], p, labels=range(p.shape[1])))


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
    asked, said_a, said_b = ([word.lower() for word in _WORD.findall(text)] for text in (prompt, a, b))
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
        **{name: np.log1p(n) if name in _COUNTED else _share(n, len(text)) for name, n in counts.items()},
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _cross_fitted(estimator, x: np.ndarray | csr_matrix, pairs: pd.DataFrame) -> np.ndarray:
    p = np.zeros((len(pairs), len(LABELS)))
    # So little work an iteration that a second thread makes it slower, and twenty times so on a busy machine.
    with threadpool_limits(1):
        # A column for each label that occurs: votes without ties never have one.
        p[:, np.unique(pairs["label"])] = cross_val_predict(
            estimator, x, pairs["label"], groups=pairs["fold"], cv=LeaveOneGroupOut(), method="predict_proba"
        )
    return p


YARDSTICKS = {
    "uniform": uniform,
    "class_prior": class_prior,
    "length_only": length_only,
    "tfidf": tfidf,
    "boosting": boosting,
}
