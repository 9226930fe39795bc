import numpy as np
import pandas as pd
import pytest

from pairpref.evaluation.metrics import scores
from pairpref.evaluation.yardsticks import class_prior, length_features, length_only


def votes(n: int, longer_wins: float, seed: int = 0) -> pd.DataFrame:
    """Votes in which the longer answer wins with a given probability; a fifth of all are ties."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 400, size=(n, 2))
    a_wins = np.where(rng.random(n) < longer_wins, lengths[:, 0] > lengths[:, 1], lengths[:, 0] <= lengths[:, 1])
    label = np.where(rng.random(n) < 0.2, 2, np.where(a_wins, 0, 1))
    texts = {"response_a": ["x" * k for k in lengths[:, 0]], "response_b": ["x" * k for k in lengths[:, 1]]}
    return pd.DataFrame({"prompt": ["?"] * n, **texts, "label": label, "fold": np.arange(n) % 5})


def test_class_prior_is_the_share_of_the_other_folds():
    pairs = votes(200, 0.5)
    p = class_prior(pairs)
    others = pairs.loc[pairs["fold"] != 2, "label"].value_counts(normalize=True).sort_index()
    np.testing.assert_allclose(p[pairs["fold"] == 2], np.tile(others, (40, 1)))


def test_lengths_are_learned_where_they_matter_and_only_there():
    for longer_wins, gain in ((0.9, 0.2), (0.5, 0.0)):
        pairs = votes(3000, longer_wins)
        labels = pairs["label"].to_numpy()
        prior, lengths = (scores(labels, model(pairs))["log_loss"] for model in (class_prior, length_only))
        assert prior - lengths == pytest.approx(gain, abs=0.1 if gain else 0.01)


@pytest.mark.parametrize("model", [class_prior, length_only])
def test_a_fold_is_not_predicted_from_its_own_labels(model):
    pairs = votes(300, 0.8)
    changed = pairs.assign(label=pairs["label"].where(pairs["fold"] != 1, (pairs["label"] + 1) % 3))
    own = pairs["fold"] == 1
    np.testing.assert_array_equal(model(pairs)[own], model(changed)[own])
    np.testing.assert_allclose(model(pairs).sum(axis=1), 1)


def test_missing_texts_have_no_length():
    pairs = votes(20, 0.5).assign(response_b=None)
    assert (length_features(pairs)[:, 2] == 0).all()
