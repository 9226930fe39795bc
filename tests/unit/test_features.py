"""Counted features, and the experts that are fitted to them."""

import json
from time import process_time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from threadpoolctl import threadpool_info, threadpool_limits

from pairpref import paths
from pairpref.errors import UserError
from pairpref.model import experts, forest
from pairpref.model.experts import Experts
from pairpref.model.forest import TREES, Forest
from pairpref.monitor import Log
from pairpref.pairs import swap_labels, swap_probabilities
from pairpref.text import counts
from pairpref.text.features import Features
from stages.features import features as stage


def frame(*rows: tuple[str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["prompt", "response_a", "response_b"])


@given(*[st.text(max_size=80)] * 3)
def test_swapping_the_answers_swaps_their_features(prompt, a, b):
    there, back = Features.of(frame((prompt, a, b))), Features.of(frame((prompt, b, a)))
    for one, other in (("a", "b"), ("b", "a"), ("pair", "pair"), ("prompt", "prompt")):
        assert np.array_equal(getattr(there, one), getattr(back, other))
        assert np.isfinite(getattr(there, one)).all()


def test_white_space_around_a_text_counts_for_nothing():
    plain = Features.of(frame(("What?", "This.", "That one.")))
    spaced = Features.of(frame((" What?\n", "\n\nThis. ", "That one.  \n")))
    assert np.array_equal(plain.a, spaced.a) and np.array_equal(plain.prompt, spaced.prompt)


def test_features_count_what_their_names_say():
    found = Features.of(frame(("Name 3 fruits?", "# Fruit\n- an apple\n- 2 pears", "I'm sorry.")))
    answer, pair, prompt = counts.names()
    a, b = (dict(zip(answer, np.expm1(part[0]), strict=True)) for part in (found.a, found.b))
    assert [round(a[name]) for name in ("bullets", "headings", "numbers", "words")] == [2, 1, 1, 5]
    assert round(b["refuses"]) == 1 and round(b["bullets"]) == 0
    of_pair = dict(zip(pair, found.pair[0], strict=True))
    assert of_pair["equal"] == of_pair["words_in_common"] == 0
    of_prompt = dict(zip(prompt, found.prompt[0], strict=True))
    assert of_prompt["asks_list"] == of_prompt["ends_asking"] == 1


@pytest.mark.parametrize("text", ["!" * 20_000 + "a", "a" + "\n" * 19_990 + "b"])
def test_a_text_that_repeats_one_sign_takes_no_longer_than_another(text):
    begin = process_time()
    Features.of(frame((text, text, "No.")))
    assert process_time() - begin < 3


def test_an_answer_that_adds_nothing_is_known():
    long = "The quick brown fox jumps over the lazy dog and runs away from the hounds. " * 4
    name = counts.names()[0].index("adds_to_other")
    copied, own = Features.of(frame(("?", long, long), ("?", long, "No."))).a[:, name]
    assert copied < own - 1


def test_features_are_saved_and_may_be_none(tmp_path):
    for rows in ([("What?", "This.", "That.")], []):
        found = Features.of(frame(*rows))
        found.save(tmp_path / "features.parquet")
        again = Features.load(tmp_path / "features.parquet")
        assert np.array_equal(found.b, again.b) and found.prompt.shape == again.prompt.shape


@pytest.fixture(scope="module")
def votes() -> tuple[Features, np.ndarray]:
    """The longer answer wins, and answers of equal length tie, by and large."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 30, size=(400, 2))
    lengths[::4, 1] = lengths[::4, 0]
    texts = [tuple(" ".join(["word"] * n) for n in pair) for pair in lengths]
    labels = np.where(lengths[:, 0] == lengths[:, 1], 2, lengths[:, 0] < lengths[:, 1])
    noisy = np.where(rng.random(400) < 0.15, rng.integers(0, 3, 400), labels)
    return Features.of(frame(*(("?", *pair) for pair in texts))), noisy


def test_experts_learn_and_swapped_answers_swap_their_probabilities(votes):
    features, labels = votes
    held_out = np.arange(len(labels)) % 5 == 0
    _, found = experts.judge(features, labels, ~held_out, held_out, seed=0)
    fitted, swapped = experts.judge(
        features.swapped(), swap_labels(labels), ~held_out, held_out, seed=0
    )
    assert list(found) == list(experts.EXPERTS)
    for p in found.values():
        assert np.allclose(p.sum(axis=1), 1)
    right = found["features.trees"].argmax(axis=1) == labels[held_out]
    assert right.mean() > 0.7
    for name, p in fitted.predict(features.swapped().take(held_out)).items():
        back = fitted.predict(features.take(held_out))[name]
        assert np.allclose(p, swap_probabilities(back), atol=1e-6)
        assert np.array_equal(p, swapped[name])


def test_experts_are_saved_to_the_bit_and_the_same_again(votes, tmp_path):
    features, labels = votes
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    fitted = Experts.fit(features, labels, seed=3)
    fitted.save(one)
    Experts.fit(features, labels, seed=3).save(two)
    assert one.read_bytes() == two.read_bytes()
    loaded = Experts.load(one)
    for name, p in fitted.predict(features).items():
        assert np.array_equal(p, loaded.predict(features)[name])
    one.write_bytes(one.read_bytes()[:-1])
    with pytest.raises(UserError, match="not experts of this version.*repro -f features"):
        Experts.load(one)


def test_experts_of_other_features_are_refused(votes, tmp_path, monkeypatch):
    Experts.fit(*votes, seed=0).save(tmp_path / "experts.safetensors")
    answer, pair, prompt = counts.names()
    monkeypatch.setattr(counts, "names", lambda: ([*answer, "new"], pair, prompt))
    with pytest.raises(UserError, match="other features were counted.*repro -f features"):
        Experts.load(tmp_path / "experts.safetensors")


def test_threads_change_no_bit(votes, monkeypatch):
    features, labels = votes
    threads = set()

    def fit(*_):
        threads.update(pool["num_threads"] for pool in threadpool_info())
        return Experts({}, {})

    monkeypatch.setattr(Experts, "fit", fit)
    with threadpool_limits(2):
        experts.judge(features, labels, labels > 0, labels == 0, seed=0)
    assert threads == {1}


@pytest.mark.parametrize("labels", [[0, 1], [1, 2], [0, 2], [2]])
def test_experts_bear_votes_that_lack_a_label(votes, labels):
    features, _ = votes
    chosen = np.random.default_rng(0).choice(labels, 60)
    found = Experts.fit(features.take(np.arange(60)), chosen, seed=0).predict(features)
    for p in found.values():
        assert np.isfinite(p).all() and np.abs(p.sum(axis=1) - 1).max() < 1e-12


def test_a_forest_of_arrays_answers_as_the_librarys():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 8)).astype(np.float32)
    target = x[:, 0] + x[:, 1] * x[:, 2] + rng.normal(size=600) > 0
    fresh = rng.normal(size=(200, 8)).astype(np.float32)
    random = ExtraTreesClassifier(TREES, min_samples_leaf=3, max_features=0.5, random_state=1)
    boosted = HistGradientBoostingClassifier(
        learning_rate=0.08,
        max_iter=40,
        max_leaf_nodes=12,
        min_samples_leaf=15,
        l2_regularization=1.0,
        early_stopping=False,
        random_state=1,
    )
    for ours, theirs in (
        (Forest.random(x, target, 3, 0.5, 1), random),
        (Forest.boosted(x, target, 1), boosted),
    ):
        expected = theirs.fit(x, target).predict_proba(fresh)[:, 1]
        assert np.allclose(ours.predict(fresh), expected, atol=1e-6)


def test_clusters_keep_prompt_groups_together(votes):
    features, labels = votes
    groups = np.arange(len(labels)) // 7
    found = experts.clusters(features, groups)
    assert 1 < len(np.unique(found)) <= experts.CLUSTERS
    assert (pd.Series(found).groupby(groups).nunique() == 1).all()


def test_votes_that_count_alike_are_one_cluster_and_nothing_is_away(
    here, small_params, monkeypatch
):
    monkeypatch.setattr(forest, "TREES", 2)
    pairs = frame(*[("What is red?", "Yes.", "No.")] * 12)
    fold = np.arange(12) % 2
    votes = pairs.assign(id=[f"v{i}" for i in range(12)], label=fold, group=range(12), fold=fold)
    assert not experts.clusters(Features.of(pairs), votes["group"].to_numpy()).any()
    paths.PAIRS.parent.mkdir(parents=True)
    votes.to_parquet(paths.PAIRS)
    stage(small_params(fusion__members=["classifier", "features"]), Log("test"))
    assert set(pd.read_parquet(paths.FEATURES_OOF)["split"]) == {"home"}


@pytest.mark.parametrize("reads", [False, True])
def test_what_training_reads_does_not_change_with_the_members(
    here, small_params, monkeypatch, reads
):
    monkeypatch.setattr(forest, "TREES", 2)
    pairs = frame(*[(f"What is {i}?", "Yes, sure.", "No.") for i in range(12)])
    group = np.maximum(np.arange(12), 5)  # fold 0 has one prompt
    votes = pairs.assign(id=[f"v{i}" for i in range(12)], label=np.arange(12) % 3, group=group)
    paths.PAIRS.parent.mkdir(parents=True)
    votes.assign(fold=np.where(group == 5, 0, 1)).to_parquet(paths.PAIRS)
    found = set()
    for members in (["classifier", "features"], ["classifier"]):
        stage(small_params(fusion__members=members, model__features=reads), Log("test"))
        found.add(paths.FEATURES.read_bytes())
        figures = json.loads(paths.FEATURES_FIGURES.read_text("utf-8"))
        assert "learning" not in figures
    assert len(found) == 1 and len(Features.load(paths.FEATURES)) == 12 * reads


def test_single_texts_are_refused_with_all_that_is_to_switch_off(here, small_params):
    paths.PAIRS.parent.mkdir(parents=True)
    votes = frame(("", "Hi [A] Hello.", None)).assign(id="v0", label=0, group=0, fold=0)
    votes.to_parquet(paths.PAIRS)
    with pytest.raises(UserError, match=r"members=\[classifier\].*features=false.*ab=false"):
        stage(small_params(fusion__members=["classifier", "features"]), Log("test"))


def test_the_pool_of_experts_lies_between_them_and_swaps(votes):
    features, labels = votes
    found = Experts.fit(features, labels, seed=0).predict(features)
    p, all_ties = experts.pooled(found), np.stack([of[:, 2] for of in found.values()])
    assert np.allclose(p.sum(axis=1), 1)
    assert (p[:, 2] >= np.clip(all_ties.min(axis=0), 0.001, 1) - 1e-9).all()
    assert (p[:, 2] <= np.clip(all_ties.max(axis=0), 0, 0.999) + 1e-9).all()
    back = experts.pooled({name: swap_probabilities(of) for name, of in found.items()})
    assert np.allclose(back, swap_probabilities(p))


def test_the_learning_curve_is_of_nested_whole_groups_and_one_fold(
    small_params, tmp_path, monkeypatch
):
    """Each fit says how many votes it saw: the more it saw, the surer it is of A."""
    n, seen = 600, []
    rng = np.random.default_rng(0)
    group = rng.integers(200, size=n)
    texts = [" ".join(["word"] * k) for k in rng.integers(1, 30, size=n)]
    votes = {"id": [f"v{i}" for i in range(n)], "prompt": texts, "response_a": texts}
    votes |= {"response_b": texts[::-1], "label": rng.integers(3, size=n), "group": group}

    def judge(features, labels, rest, held_out, seed):
        seen.append((rest, held_out))
        a = 0.3 + 0.5 * rest.mean()
        p = np.tile([a, 0.9 - a, 0.1], (held_out.sum(), 1))
        return Experts({}, {}), dict.fromkeys(experts.EXPERTS, p)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(experts, "judge", judge)
    paths.PAIRS.parent.mkdir(parents=True)
    pd.DataFrame(votes | {"fold": group % 3}).to_parquet(paths.PAIRS)
    members = ["classifier", "features"]
    stage(small_params(fusion__members=members, data__folds=3, parallel__jobs=1), Log("test"))
    found = json.loads(paths.FEATURES_FIGURES.read_text("utf-8"))
    (all_, out), (quarter, _), (half, _) = seen[0], *seen[-3:-1]
    assert np.array_equal(out, group % 3 == 0) and (quarter <= half).all() and (half <= all_).all()
    for rest, share in ((quarter, 0.25), (half, 0.5)):
        assert rest.sum() == pytest.approx(share * all_.sum(), abs=10)
        assert not set(group[rest]) & set(group[all_ & ~rest])
    assert found["learning"]["votes"] == [quarter.sum(), half.sum(), all_.sum()]
    assert found["learning"]["last"]["votes"] == out.sum()
    answer, pair, prompt = map(len, counts.names())
    assert found["shortcuts"]["comparisons"] == 3 * answer + pair + prompt
    assert not found["shortcuts"]["named"]
    splits = pd.read_parquet(paths.FEATURES_OOF)["split"]
    assert set(splits) == {"home", "away"}
