"""The judge as a library: one answer a pair, however it is asked."""

import ast
import json
import os
import shutil
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pairpref import Judge
from pairpref import bundle as bundles
from pairpref import predict as prediction
from pairpref.data.cells import join
from pairpref.effort import Effort
from pairpref.errors import UserError
from pairpref.evaluation.calibration import of_fewer
from pairpref.evaluation.ranking import bradley_terry
from pairpref.pairs import PROBABILITIES, TEXTS, swap_probabilities
from pairpref.text.counts import measure, names
from pairpref.training import members as rooms

ROOT = Path(__file__).parents[2]
SAME = {"rtol": 0, "atol": 1e-6}
ASKED = ("Why is the sky blue?", "Rayleigh scattering.", "It reflects the sea, they say.")


@pytest.fixture(scope="module")
def judge(all_members) -> Judge:
    return Judge.load(all_members / "models")


@pytest.fixture(scope="module")
def pairs(all_members) -> pd.DataFrame:
    """The test file as a competitor reads it."""
    path = all_members / "data/raw/simulated/test.csv"
    return pd.read_csv(path, dtype=str, keep_default_na=False)


@pytest.fixture(scope="module")
def p(judge, pairs) -> np.ndarray:
    return judge.predict(pairs).to_numpy()


def talk(*contents: str | None) -> list[dict]:
    """A conversation that the user begins."""
    roles = ("user", "assistant") * len(contents)
    return [{"role": r, "content": c} for r, c in zip(roles, contents, strict=False)]


def in_python(code: str) -> list[str]:
    """Words that a fresh Python prints."""
    env = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return done.stdout.split()


def test_importing_it_is_light():
    """Of numpy's size or more nothing; torch only where a judge is loaded."""
    heavy = {"numpy", "pandas", "pyarrow", "scipy", "sklearn", "torch", "transformers", "pydantic"}
    assert not heavy & {*in_python("import pairpref, sys; print(*sys.modules)")}
    loaded = {*in_python("from pairpref import Judge; import sys; print(*sys.modules)")}
    assert "pairpref.judge" in loaded and not {"torch", "sklearn"} & loaded


def test_a_plain_installation_brings_all_that_it_imports():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    brought, new = set(), project["dependencies"]
    while new:
        asked = [Requirement(text) for text in new]
        names = {canonicalize_name(r.name) for r in asked if not r.marker or r.marker.evaluate()}
        new = [text for name in names - brought for text in requires(name) or ()]
        brought |= names
    files = in_python(
        "import sys, pairpref.predict, pairpref.training.members; "
        "print(*(m.__file__ for n, m in sys.modules.items() if n.startswith('pairpref')))"
    )
    assert len(files) > 40
    packages = packages_distributions()
    for file in files:
        for node in ast.parse(Path(file).read_text(encoding="utf-8")).body:
            first = node.names[0].name if isinstance(node, ast.Import) else ""
            first = node.module or "" if isinstance(node, ast.ImportFrom) else first
            for package in packages.get(first.partition(".")[0], ["pairpref"])[:1]:
                assert canonicalize_name(package) in brought | {"pairpref"}, file


def test_it_is_typed():
    assert (ROOT / "src/pairpref/py.typed").exists()
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert "py.typed" in tools["setuptools"]["package-data"]["pairpref"]


def test_a_pair_alone_or_among_others(judge, pairs, p):
    turns = [[json.loads(cell) for cell in pairs[name]] for name in TEXTS]
    assert np.allclose(judge.predict(*turns), p, **SAME)
    some = np.random.default_rng(0).permutation(len(pairs))[:7]
    assert np.allclose(judge.predict(pairs.iloc[some]).to_numpy(), p[some], **SAME)
    one = judge.predict(*ASKED)
    among = judge.predict(*([text] * 3 + ["x " * 300] for text in ASKED))
    assert np.allclose(among[:3], one, **SAME) and among.shape == (4, 3)
    assert sum(one) == pytest.approx(1) and (one.p_a, one.p_b, one.p_tie) == tuple(one)
    with pytest.raises(AttributeError):
        one.p_a = 1.0


def test_swapped_answers_get_swapped_probabilities(judge, pairs, p):
    renamed = {"response_a": "response_b", "response_b": "response_a"}
    q = judge.predict(pairs.rename(columns=renamed)).to_numpy()
    assert np.allclose(swap_probabilities(q), p, rtol=0, atol=1e-12) and p.std(axis=0).min() > 1e-3
    same = judge.predict(ASKED[0], ASKED[1], ASKED[1])
    assert abs(same.p_a - same.p_b) < 1e-12
    empty = judge.predict("", "", "")
    assert abs(empty.p_a - empty.p_b) < 1e-12


def test_messages_are_read_as_the_pipeline_reads_them(judge, pairs):
    prompt, a, b = ASKED
    expected = judge.predict(*ASKED)
    assert judge.predict(talk(prompt), a, b) == expected
    assert judge.predict(None, talk(prompt, a), talk(prompt, b)) == expected
    replies = ([{"role": "assistant", "content": text}] for text in (a, b))
    assert judge.predict(talk(prompt), *replies) == expected
    # Several turns are joined as in the votes; a null turn is marked.
    turns = judge.predict(None, talk("p", "a", "q", None), talk("p", "b", "q", "c"))
    texts = (join(of) for of in (["p", "q"], ["a", None], ["b", "c"]))
    assert np.allclose(turns, judge.predict(*texts), **SAME)
    conversations = pd.DataFrame(
        {"conversation_a": [talk(prompt, a)], "conversation_b": [talk(prompt, b)]}
    )
    assert np.allclose(judge.predict(conversations).to_numpy()[0], expected, **SAME)


def test_text_is_cleaned_as_the_votes_were(judge):
    clean = judge.predict("p", "a café by the sea", "b")
    assert judge.predict("p", "a cafÃ© by\x00 the sea", "b") == clean
    assert judge.predict("p", "\ud83d", "b") == judge.predict("p", "\ufffd", "b")
    # A string is text, whatever it looks like.
    assert judge.predict("p", '["a"]', "b") != judge.predict("p", "a", "b")


def test_a_frame_keeps_its_index_and_needs_no_id(judge, pairs, p):
    frame = pairs.drop(columns="id").set_index(np.arange(len(pairs)) * 10)
    found = judge.predict(frame)
    assert list(found) == PROBABILITIES and found.index.equals(frame.index)
    assert np.allclose(found.to_numpy(), p, **SAME)
    assert judge.predict(frame.iloc[:0]).shape == (0, 3)
    arrays = frame.map(lambda cell: np.array(json.loads(cell), dtype=object))
    assert np.allclose(judge.predict(arrays).to_numpy(), p, **SAME)


def test_an_iterator_is_answered_as_it_is_read(judge):
    read = []

    def asked():
        for number in range(600):
            read.append(number)
            yield ("p", f"answer {number % 5}", "b")

    answers = judge.predict(asked())
    assert not read
    first = next(answers)
    assert len(read) < 300 and np.allclose(first, judge.predict("p", "answer 0", "b"), **SAME)
    assert sum(1 for _ in answers) == 599


@pytest.mark.parametrize("item", [dict.fromkeys(TEXTS, "x"), "abc", ("p", "a"), None])
def test_an_item_of_another_kind_is_refused(judge, item):
    answers = judge.predict(iter([("p", "a", "b"), item]))
    with pytest.raises(UserError, match=r"item 2: expected \(prompt, a, b\)"):
        list(answers)


@pytest.mark.parametrize("kind", [list, np.array, pd.Series, pd.Index, pd.array])
def test_many_may_be_any_array(judge, kind):
    texts = [kind(given) for given in zip(ASKED, ("p", "a", "b"), strict=True)]
    found = judge.predict(*texts)
    assert np.allclose(found[0], judge.predict(*ASKED), **SAME) and found.shape == (2, 3)
    assert np.allclose(judge.predict(*(pd.Series(text).values for text in texts)), found, **SAME)


def test_threads_share_it(judge, pairs, monkeypatch):
    """They are answered one after another, each with the bits that it gets alone."""
    before, votes, inside, most = torch.get_num_threads(), judge.members.votes, [], []

    def noted(*given, **options):
        inside.append(1)
        most.append(len(inside))
        found = votes(*given, **options)
        inside.pop()
        return found

    monkeypatch.setattr(judge.members, "votes", noted)
    asks = [
        lambda: judge.predict(*ASKED),
        lambda: judge.predict(pairs.head(7)).to_numpy().tobytes(),
        lambda: judge.rank(ASKED[0], [*ASKED[1:], "No idea."]).strengths.tobytes(),
        lambda: judge.explain(*ASKED),
        lambda: [*judge.predict(iter([ASKED, ("p", "a", "b")]))],
    ]
    alone = [ask() for ask in asks]
    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(lambda ask: ask(), asks * 4)] == alone * 4
    assert max(most) == 1 and torch.get_num_threads() == before


def test_long_texts_are_predicted_in_parts(judge, pairs, p, monkeypatch):
    monkeypatch.setattr("pairpref.judge.SHARD_CHARACTERS", 500)
    assert np.allclose(judge.predict(pairs).to_numpy(), p, **SAME)
    long = judge.predict("p", "a " * 499_000, "b")
    assert sum(long) == pytest.approx(1)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (("p", 1, "b"), r"pair 1: not_text \(response_a: 1\)"),
        (("p", "a", None), "pair 1: not_text"),
        ((None, "a", "b"), "no_prompt"),
        ((["p", "q"], ["a"], ["b"]), "got 2 prompts, 1 A and 1 B"),
        (("p", ["a"], ["b"]), "got one prompts, 1 A"),
        ((["p"] * 2, ["a"] * 2, ["b", 3]), r"pair 2: not_text \(response_b: 3\)"),
        ((None, talk("p", "a"), talk("q", "b")), "prompts_differ"),
        (("test.csv",), "expected a prompt and two answers.* got one str"),
        (([("p", "a", "b")],), "an iterator of .* got one list"),
        ((None, None, ["b"]), "expected as many prompts as answers"),
        ((pd.DataFrame({"x": [1]}),), "the DataFrame: wrong columns"),
        ((pd.DataFrame([["p", "a", None]], columns=TEXTS),), "the DataFrame, row 1: not_text"),
    ],
)
def test_what_can_not_be_used_is_one_line(judge, asked, says):
    with pytest.raises(UserError, match=says) as error:
        judge.predict(*asked)
    assert len(str(error.value).splitlines()) == 1


def test_an_unknown_precision_is_refused(all_members):
    with pytest.raises(UserError, match="'fp99': expected one of"):
        Judge.load(all_members / "models", "fp99")


@pytest.mark.parametrize("prior", [[0, 0, 0], [1, 2], [0.5, -0.1, 0.6], [1, 1, None]])
def test_shares_that_are_none_are_refused(all_members, tmp_path, prior):
    folder = Path(shutil.copytree(all_members / "models", tmp_path / "models"))
    path = folder / "train/classifier.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"prior": prior}
    path.write_text(json.dumps(config), encoding="utf-8")
    bundles.record_models(folder)
    bundles.record_calibrator(folder)
    with pytest.raises(UserError, match="damaged, .*Train again"):
        Judge.load(folder)


def test_a_bundle_is_checked_before_it_is_loaded(all_members, tmp_path):
    folder = Path(shutil.copytree(all_members / "models", tmp_path / "bundle" / "models"))
    assert Judge.load(folder.parent).predict(*ASKED) == Judge.load(folder).predict(*ASKED)
    weights = folder / "oof/reward/fold0/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(UserError, match="oof/reward/fold0 changed"):
        Judge.load(folder)


def test_models_without_room_are_loaded_when_asked(all_members, pairs, p, monkeypatch):
    monkeypatch.setattr(rooms, "_free", lambda device: 0)
    judge = Judge.load(all_members / "models")
    assert not any(model.kept for models in judge.members.models.values() for model in models)
    assert np.array_equal(judge.predict(pairs).to_numpy(), p)


def test_a_fold_that_is_lost_meanwhile_is_one_line(all_members, tmp_path, monkeypatch, capsys):
    """It was whole when the bundle was checked."""
    monkeypatch.setattr(rooms, "_free", lambda device: 0)
    folder = Path(shutil.copytree(all_members / "models", tmp_path / "models"))
    judge, output = Judge.load(folder), tmp_path / "out/s.csv"
    monkeypatch.setattr(Judge, "load", lambda *_: judge)
    weights = folder / "oof/fold1/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    path = all_members / "data/raw/simulated/test.csv"
    given = ["--input", path, "--output", output, "--bundle", folder]
    with pytest.raises(SystemExit) as stopped:
        prediction.main([*map(str, given)])
    (line,) = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 1 and "oof/fold1: not a saved classifier" in line
    assert not [*output.parent.glob("*")]


@pytest.mark.parametrize("room", [0, 1 << 40], ids=["loaded when asked", "kept"])
def test_devices_share_the_pairs(all_members, pairs, p, monkeypatch, room):
    """Two devices, which are the CPU twice: each reads half of the batches, of every model."""
    monkeypatch.setattr(rooms, "_devices", lambda: [torch.device("cpu")] * 2)
    monkeypatch.setattr(rooms, "_free", lambda device: room)
    read, by_order = [], rooms.by_order

    def noted(*given):
        p = by_order(*given)
        read.append(int((p[0].sum(axis=1) > 0).sum()))
        return p

    monkeypatch.setattr(rooms, "by_order", noted)
    judge, before = Judge.load(all_members / "models"), torch.get_num_threads()
    found = judge.predict(pd.concat([pairs] * 4)).to_numpy()
    assert np.allclose(found, np.concatenate([p] * 4), **SAME)
    # 160 pairs by two folds of two members, 64 at a time, or 32 where each answer is a sequence.
    assert sorted(read) == [64] * 4 + [96] * 4 and torch.get_num_threads() == before


class TestEffort:
    @pytest.fixture(scope="class")
    def tokens(self, judge, pairs):
        from pairpref.data.clean import clean_row
        from pairpref.data.given import of_frame

        return judge.read([clean_row(row, judge.switches) for row in of_frame(pairs)])

    def test_sure_pairs_are_asked_once_and_unsure_ones_twice(self, judge, tokens, monkeypatch):
        one, both = (judge.members.answer(tokens, Effort(o)) for o in ("one", "both"))
        gap = np.sort(one, axis=1)
        gap = gap[:, 2] - gap[:, 1]
        sure, unsure = np.quantile(gap, 0.7), np.quantile(gap, 0.3)
        monkeypatch.setattr("pairpref.effort.SURE", sure)
        monkeypatch.setattr("pairpref.effort.UNSURE", unsure)
        steps = []
        p = judge.members.answer(tokens, Effort("uncertain"), step=steps.append)
        assert np.array_equal(p[gap > sure], one[gap > sure])
        assert np.allclose(p[gap < unsure], both[gap < unsure], rtol=0, atol=1e-9)
        between = (gap > unsure) & (gap < sure)
        low, high = np.minimum(one, both)[between], np.maximum(one, both)[between]
        assert (p[between] > low - 1e-9).all() and (p[between] < high + 1e-9).all()
        assert np.abs(one - both).max() > 1e-4
        # Two folds of the classifier and of the reward model; the latter's order does not matter.
        assert sum(steps) == 4 * 40 + 2 * int((gap < sure).sum())

    def test_the_first_folds(self, judge, tokens):
        votes = judge.members.votes(tokens, "both", Effort(folds=1))
        assert votes["classifier"].shape == votes["reward"].shape == (1, 40, 3)
        whole = judge.members.votes(tokens, "both", Effort())
        assert np.array_equal(votes["classifier"][0], whole["classifier"][0])
        p, q = (judge.members.answer(tokens, e) for e in (Effort(folds=1), Effort()))
        assert 1e-4 < np.abs(p - q).max() < 0.3

    def test_shorter_inputs(self, judge, tokens):
        p, q = (judge.members.answer(tokens, e) for e in (Effort(length=24), Effort(length=999)))
        assert np.abs(p - q).max() > 1e-4
        assert np.array_equal(q, judge.members.answer(tokens, Effort()))


def test_fewer_models_are_sharpened_less():
    """Logits of a model: what it shares with the others, and noise of its own."""
    from scipy.special import softmax

    from pairpref.evaluation.calibration import sharpening

    rng = np.random.default_rng(0)
    z = rng.normal(size=(1, 4000, 3)) * 0.3 + rng.normal(size=(5, 4000, 3)) * 0.2
    p = softmax(z, axis=-1)
    all_five = sharpening(p)
    for count in (1, 2, 3):
        assert of_fewer(all_five, 5, count) == pytest.approx(sharpening(p[:count]), abs=0.01)
    assert of_fewer(all_five, 5, 5) == all_five and of_fewer(1.0, 5, 2) == 1.0


class TestRank:
    def test_the_order_is_that_of_the_pairs(self, judge):
        prompt, *answers = ASKED
        found = judge.rank(prompt, [*answers, "", answers[0]])
        a, b, _ = judge.predict(*ASKED)
        assert found.beats[0, 1] == pytest.approx((1 + a - b) / 2, abs=1e-6)
        assert np.allclose(found.beats + found.beats.T, 1)
        assert list(found.strengths[list(found.order)]) == sorted(found.strengths, reverse=True)
        assert found.strengths[0] == pytest.approx(found.strengths[3], abs=1e-4)
        assert found.strengths.sum() == pytest.approx(0) and (found.errors > 0).all()

    def test_true_strengths_are_found(self):
        true = np.array([1.0, 0.2, -0.4, -0.8])
        beats = 1 / (1 + np.exp(true - true[:, None]))
        found = bradley_terry(beats)
        assert found.order == (0, 1, 2, 3)
        assert np.corrcoef(found.strengths, true)[0, 1] > 0.999
        assert found.strengths / true == pytest.approx(np.full(4, 0.9), abs=0.1)

    def test_errors_are_those_of_votes_drawn(self):
        """Each pair voted on once: strengths are as far from the truth as is given as error."""
        rng = np.random.default_rng(0)
        true = np.linspace(1, -1, 9)
        p = 1 / (1 + np.exp(true - true[:, None]))
        apart = []
        for _ in range(200):
            won = np.triu(rng.random(p.shape) < p, 1).astype(float)
            found = bradley_terry(won + np.tril(1 - won.T, -1) + np.eye(9) / 2)
            apart.append((found.strengths - true) / found.errors)
        assert np.std(apart) == pytest.approx(1, abs=0.15)

    def test_one_answer_and_sure_ones(self):
        assert bradley_terry(np.array([[0.5]])).strengths.tolist() == [0.0]
        sure = bradley_terry(np.array([[0.5, 1.0], [0.0, 0.5]]))
        assert np.isfinite(sure.strengths).all() and sure.order == (0, 1)

    def test_answers_may_be_a_series_or_a_generator(self, judge):
        prompt, *answers = ASKED
        whole = judge.rank(prompt, answers)
        again = pd.Series(answers, index=[1, 0])
        assert judge.rank(prompt, again).strengths.tolist() == whole.strengths.tolist()
        assert judge.rank(prompt, iter(answers)).strengths.tolist() == whole.strengths.tolist()

    @pytest.mark.parametrize("answers", [[], "an answer"])
    def test_no_answers(self, judge, answers):
        with pytest.raises(UserError, match="list of answers"):
            judge.rank("p", answers)


class TestExplain:
    def test_it_adds_up_to_the_answer(self, judge, all_members):
        found = judge.explain(*ASKED)
        assert np.allclose(found.p, judge.predict(*ASKED), **SAME)
        fusion = json.loads((all_members / "models/fusion.json").read_text())
        assert [v.member for v in found.votes] == fusion["members"]
        assert [v.winner for v in found.votes] == fusion["winner"]
        odds = sum(v.winner * np.log(v.p.p_a / v.p.p_b) for v in found.votes)
        assert odds == pytest.approx(np.log(found.p.p_a / found.p.p_b), abs=1e-6)
        assert [len(v.folds) for v in found.votes[:3]] == [2, 2, 0]

    def test_its_orders_are_those_of_the_swapped_pair(self, judge):
        prompt, a, b = ASKED
        found, other = judge.explain(prompt, a, b), judge.explain(prompt, b, a)
        assert np.allclose(found.b_first, swap_probabilities(np.array(other.a_first)), **SAME)
        assert np.abs(np.subtract(found.a_first, found.b_first)).max() > 1e-6

    def test_features_are_the_counted_ones(self, judge):
        found = judge.explain("p", "one two three four five six seven", "one")
        (of_a,), (of_b,), *_ = measure(["p"], ["one two three four five six seven"], ["one"])
        counted = dict(zip(names()[0], zip(of_a, of_b, strict=True), strict=True))
        assert len(found.features) == 8
        assert all(counted[f.name] == (f.a, f.b) for f in found.features)
        apart = [abs(f.apart) for f in found.features]
        assert apart == sorted(apart, reverse=True) and apart[-1] > 0
        assert judge.explain("p", "one", "one").features == ()

    def test_what_was_cut_is_shown(self, judge):
        found = judge.explain("p", "start " + "word " * 300 + "the end", "short")
        for reading in found.readings:
            prompt, a, b = reading.parts
            assert reading.windows == 3 and prompt.cut == b.cut == ""
            assert 0 < a.read < a.tokens and a.read + len(a.cut) > a.tokens
            assert "word" in a.cut and "start" not in a.cut and "the end" not in a.cut
        assert "not read of A" in str(found) and "in 3 windows" in str(found)
        whole = judge.explain(*ASKED)
        assert all(p.read == p.tokens for r in whole.readings for p in r.parts)
        assert "not read" not in str(whole)
