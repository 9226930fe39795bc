import numpy as np
import pandas as pd
import pytest

from pairpref.evaluation.baselines import (
    BASELINES,
    boosting,
    class_prior,
    length_features,
    length_only,
    plain_features,
    tfidf,
)
from pairpref.evaluation.metrics import scores

FITTED = [baseline for name, baseline in BASELINES.items() if name != "uniform"]


def votes(n: int, longer_wins: float, seed: int = 0) -> pd.DataFrame:
    """Votes in which the longer answer wins with a given probability; a fifth of all are ties."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 400, size=(n, 2))
    a_wins = np.where(
        rng.random(n) < longer_wins, lengths[:, 0] > lengths[:, 1], lengths[:, 0] <= lengths[:, 1]
    )
    label = np.where(rng.random(n) < 0.2, 2, np.where(a_wins, 0, 1))
    texts = {
        "response_a": ["x" * k for k in lengths[:, 0]],
        "response_b": ["x" * k for k in lengths[:, 1]],
    }
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
        prior, lengths = (
            scores(labels, model(pairs))["log_loss"] for model in (class_prior, length_only)
        )
        assert prior - lengths == pytest.approx(gain, abs=0.1 if gain else 0.01)


@pytest.mark.parametrize("model", FITTED)
def test_a_fold_is_not_predicted_from_its_own_labels(model):
    pairs = votes(300, 0.8)
    changed = pairs.assign(label=pairs["label"].where(pairs["fold"] != 1, (pairs["label"] + 1) % 3))
    own, p = pairs["fold"] == 1, model(pairs)
    np.testing.assert_array_equal(p[own], model(changed)[own])
    np.testing.assert_allclose(p.sum(axis=1), 1)


@pytest.mark.fault(27)
@pytest.mark.parametrize("model", FITTED)
def test_a_label_that_no_vote_has_gets_nothing(model):
    pairs = votes(300, 0.8)
    pairs = pairs[pairs["label"] != 2]
    p = model(pairs)
    assert p.shape == (len(pairs), 3) and (p[:, 2] == 0).all()
    assert scores(pairs["label"].to_numpy(), p)["log_loss"] < 0.8


@pytest.mark.parametrize("text", ["", "!?", None])
def test_texts_without_a_word_leave_tfidf_the_shares(text):
    pairs = votes(60, 0.5).assign(response_a=text, response_b=text)
    np.testing.assert_array_equal(tfidf(pairs), class_prior(pairs))


def test_missing_texts_have_no_length():
    pairs = votes(20, 0.5).assign(response_b=None)
    assert (length_features(pairs)[:, 2] == 0).all()


def votes_on_words(n: int, rule, seed: int = 0) -> pd.DataFrame:
    """Votes between answers of three words; `rule(prompt, answer)` says how good one is."""
    rng = np.random.default_rng(seed)
    words = np.array("anchor broth comet dough elm flute".split())
    prompts, answers = rng.choice(words, n), rng.choice(words, size=(n, 2, 3))
    better = np.array(
        [
            [rule(prompt, list(answer)) for answer in pair]
            for prompt, pair in zip(prompts, answers, strict=True)
        ]
    )
    label = np.where(better[:, 0] > better[:, 1], 0, np.where(better[:, 0] < better[:, 1], 1, 2))
    a, b = ([" ".join(answer) for answer in answers[:, side]] for side in (0, 1))
    return pd.DataFrame(
        {
            "prompt": prompts,
            "response_a": a,
            "response_b": b,
            "label": label,
            "fold": np.arange(n) % 5,
        }
    )


@pytest.mark.parametrize(
    ("rule", "learns", "does_not"),
    [
        (lambda prompt, answer: answer.count("comet") - answer.count("dough"), tfidf, boosting),
        (lambda prompt, answer: answer.count(prompt), boosting, tfidf),
    ],
    ids=["which words", "overlap with the prompt"],
)
def test_words_are_for_tfidf_and_overlap_for_boosting(rule, learns, does_not):
    pairs = votes_on_words(800, rule)
    prior, learned, not_learned = (
        scores(pairs["label"], model(pairs))["log_loss"]
        for model in (class_prior, learns, does_not)
    )
    assert learned < prior - 0.3 < not_learned - 0.2


def test_tfidf_takes_the_strength_that_serves_it_best():
    pairs = votes_on_words(300, lambda prompt, answer: answer.count("comet"))
    np.testing.assert_array_equal(tfidf(pairs, [1e-4, 1.0]), tfidf(pairs, [1.0]))


def test_tfidf_fits_nothing_on_the_votes_it_judges():
    """Neither words nor labels of the rest of its fold change what is said of a vote."""
    pairs = votes_on_words(300, lambda prompt, answer: answer.count("comet"))
    rest_of_fold = (pairs["fold"] == 1) & (pairs.index != 1)
    changed = pairs.copy()
    changed.loc[rest_of_fold, ["response_a", "response_b"]] = (
        "flute flute broth",
        "anchor nowhere else",
    )
    changed.loc[rest_of_fold, "label"] = 2
    np.testing.assert_array_equal(tfidf(pairs)[1], tfidf(changed)[1])


def test_tfidf_with_two_folds_takes_the_first_strength():
    pairs = votes_on_words(200, lambda prompt, answer: answer.count("comet")).assign(
        fold=np.arange(200) % 2
    )
    np.testing.assert_array_equal(tfidf(pairs, [1.0, 1e-4]), tfidf(pairs, [1.0]))


def test_plain_features_count_what_can_be_counted():
    a, b = "Broth, broth: see `dict()` & 12 étoiles\nEND", ""
    features = plain_features(
        pd.DataFrame({"prompt": ["a broth, see?"], "response_a": [a], "response_b": [b]})
    ).iloc[0]
    assert features["characters_a"] == np.log1p(len(a)) == features["characters_difference"]
    assert features["words_a"] == np.log1p(7)
    assert features["unique_a"] == 6 / 7
    assert features["in_prompt_a"] == 3 / 7
    assert features["of_prompt_a"] == 2 / 3
    assert features["code_a"] == features["newlines_a"] == np.log1p(1)
    assert features["punctuation_a"] * len(a) == pytest.approx(7)
    assert features["digits_a"] * len(a) == pytest.approx(2)
    assert features["capitals_a"] * len(a) == pytest.approx(4)
    assert features["non_ascii_a"] * len(a) == pytest.approx(1)
    assert features["in_common"] == 0


def test_swapping_the_answers_swaps_the_sign_of_the_differences():
    pairs = votes_on_words(50, lambda prompt, answer: 0)
    there, back = (
        plain_features(p)
        for p in (
            pairs,
            pairs.rename(columns={"response_a": "response_b", "response_b": "response_a"}),
        )
    )
    differences = [name for name in there if name.endswith("_difference")]
    assert len(differences) == 11
    np.testing.assert_allclose(there[differences], -back[differences])
    np.testing.assert_allclose(there["in_common"], back["in_common"])


@pytest.mark.parametrize("model", FITTED)
def test_missing_answers_are_no_words(model):
    pairs = votes_on_words(60, lambda prompt, answer: answer.count("comet")).assign(response_b=None)
    assert np.isfinite(model(pairs)).all()
