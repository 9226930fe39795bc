"""The arena: repeatable, judged by the text alone, and each knob does what it says."""

import ast
import csv
import gc
import json
import os
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairpref import paths
from pairpref.data import arena, groups
from pairpref.data.arena import authors, damage, judge, lexicon
from pairpref.data.cells import parse
from pairpref.data.repair import repair
from pairpref.pairs import PROBABILITIES, TEXTS, WINNERS
from pairpref.params import JudgeParams, SimulateParams

REPOSITORY = Path(__file__).parents[2]
NAMES = ("train", "test", "truth", "solution")
DAMAGE = ("mojibake", "html_entities", "control_characters", "nested_lists", "lossy")
SKILL = {model.name: rank for rank, model in enumerate(authors.MODELS)}


@pytest.fixture
def knobs(small_params):
    """The simulate section, by default without damage, nulls and empties, with the given knobs."""

    def turn(**values: object) -> SimulateParams:
        plain = dict.fromkeys((*DAMAGE, "null_answers", "empty_answers"), 0.0)
        return small_params(
            **{f"simulate__{name}": value for name, value in (plain | values).items()}
        ).simulate

    return turn


def votes(settings: SimulateParams, count: int = 150) -> list[arena.Vote]:
    return [arena.vote(row, settings) for row in range(count)]


def written(
    folder: Path, settings: SimulateParams, train_rows: int, test_rows: int
) -> dict[str, bytes]:
    paths = [folder / f"{name}.csv" for name in NAMES]
    arena.write(
        (arena.vote(row, settings) for row in range(train_rows + test_rows)), train_rows, *paths
    )
    return {name: path.read_bytes() for name, path in zip(NAMES, paths, strict=True)}


def table(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(content.decode("utf-8").splitlines(keepends=True)))


class TestRepeatable:
    def test_another_process_writes_the_same_bytes(self, tmp_path, small_params):
        settings = small_params(**{f"simulate__{name}": 0.3 for name in DAMAGE}).simulate
        code = (
            "import sys; from pathlib import Path; from pairpref.data import arena\n"
            "from pairpref.params import SimulateParams\n"
            "settings = SimulateParams.model_validate_json(sys.argv[1])\n"
            f"paths = [Path(sys.argv[2]) / f'{{name}}.csv' for name in {NAMES}]\n"
            "arena.write((arena.vote(row, settings) for row in range(150)), 120, *paths)\n"
        )
        here = written(tmp_path / "here", settings, 120, 30)
        seed = {"PYTHONHASHSEED": "1", "PYTHONPATH": str(REPOSITORY / "src")}
        command = [sys.executable, "-c", code, settings.model_dump_json(), str(tmp_path)]
        subprocess.run(command, check=True, env=os.environ | seed)
        assert {name: (tmp_path / f"{name}.csv").read_bytes() for name in NAMES} == here

    def test_another_seed_is_another_arena(self, knobs):
        assert [v.shown for v in votes(knobs(seed=0), 20)] != [
            v.shown for v in votes(knobs(seed=1), 20)
        ]

    def test_a_row_does_not_depend_on_how_many_there_are(self, knobs, tmp_path):
        few, many = knobs(rows=10, test_rows=1), knobs(rows=1000, test_rows=200)
        assert votes(few, 30) == votes(many, 30)
        assert [arena.vote(row, few) for row in reversed(range(30))] == votes(few, 30)[::-1]
        short, long = written(tmp_path / "a", few, 40, 0), written(tmp_path / "b", few, 80, 20)
        assert long["train"].startswith(short["train"]) and long["truth"].startswith(short["truth"])

    def test_ids_are_unique_and_in_no_order(self, knobs):
        ids = [v.id for v in votes(knobs(), 300)]
        assert len(set(ids)) == 300 and ids != sorted(ids)


class TestTruth:
    def test_probabilities_are_the_judges_and_sum_to_one(self, small_params):
        settings = small_params(simulate__null_answers=0.1, simulate__empty_answers=0.1).simulate
        p = np.array([v.p for v in votes(settings)])
        assert np.array_equal(
            p, [judge.vote_probabilities(*v.shown, settings.judge) for v in votes(settings)]
        )
        assert np.abs(p.sum(axis=1) - 1).max() < 1e-9 and (p >= 0).all()
        assert np.array_equal(p, p.round(6))

    @settings(max_examples=50)
    @given(st.integers(0, 10_000), st.floats(-20, 5), st.floats(-3, 3))
    def test_they_swap_with_the_answers_when_nobody_prefers_the_first(
        self, small_params, row, tie, relevance
    ):
        with_nulls = small_params(
            simulate__null_answers=0.1,
            simulate__judge__tie=tie,
            simulate__judge__relevance=relevance,
        )
        rule = with_nulls.simulate.judge
        assert rule.order_effect == 0
        prompt, a, b = arena.vote(row, with_nulls.simulate).shown
        p = judge.vote_probabilities(prompt, a, b, rule)
        assert (p[1], p[0], p[2]) == judge.vote_probabilities(prompt, b, a, rule)
        assert min(p) >= 0 and abs(sum(p) - 1) < 1e-9

    def test_with_a_taste_for_the_first_they_do_not(self, knobs):
        rule = knobs(judge__order_effect=1.0).judge
        prompt, a, b = votes(knobs(), 1)[0].shown
        p = judge.vote_probabilities(prompt, a, b, rule)
        assert (p[1], p[0], p[2]) != judge.vote_probabilities(prompt, b, a, rule)

    def test_damage_changes_neither_what_is_shown_nor_the_vote(self, knobs):
        whole = votes(knobs())
        for name in DAMAGE:
            damaged = votes(knobs(**{name: 1.0}))
            assert [v.stored for v in damaged] != [v.stored for v in whole]
            assert [(v.shown, v.p, v.label, v.models) for v in damaged] == [
                (v.shown, v.p, v.label, v.models) for v in whole
            ]

    def test_words_outside_the_lexicon_change_nothing_but_length(self, knobs):
        rule = knobs(judge__length=0.0).judge
        for v in votes(knobs(), 20):
            prompt, a, b = v.shown
            more = [turn + " Incidentally, whatever else there might be." for turn in a]
            assert judge.vote_probabilities(prompt, more, b, rule) == judge.vote_probabilities(
                prompt, a, b, rule
            )

    def test_votes_agree_with_their_probabilities(self, knobs):
        drawn = votes(knobs(several_turns=0.0, long_answers=0.0), 8_000)
        p, label = np.array([v.p for v in drawn]), np.array([v.label for v in drawn])
        for k in range(3):
            hit = label == k
            assert abs(hit.mean() - p[:, k].mean()) < 4 * np.sqrt(
                (p[:, k] * (1 - p[:, k])).sum()
            ) / len(drawn)
            # Also where the probability is low, and where it is high.
            for tenth in np.array_split(np.argsort(p[:, k], kind="stable"), 10):
                error = np.sqrt((p[tenth, k] * (1 - p[tenth, k])).sum()) / len(tenth)
                assert abs(hit[tenth].mean() - p[tenth, k].mean()) < 4.5 * error + 1e-9


class TestRule:
    """The judge's weights, each alone."""

    RULE = JudgeParams(relevance=0.0, quality=0.0, length=0.0, order_effect=0.0, tie=0.0)

    def p(
        self,
        a: str | None,
        b: str | None,
        prompt: str = "Explain oven, broth and purée.",
        **weights: float,
    ):
        return judge.vote_probabilities([prompt], [a], [b], self.RULE.model_copy(update=weights))

    def test_without_weights_all_three_are_alike(self):
        assert self.p("skillet", "orbit comet vaguely") == pytest.approx([1 / 3] * 3, abs=1e-6)

    def test_relevance_is_topic_not_overlap(self):
        assert self.p("skillet, dough", "orbit, comet", relevance=1.0)[0] > 0.4
        assert self.p("SKILLET; 豆腐!", "skillet, dough", relevance=1.0) == pytest.approx(
            [1 / 3] * 3, abs=1e-6
        )
        assert self.p("skillet orbit", "orbit", relevance=2.0) == self.p(
            "skillet", "orbit dough", relevance=2.0
        )

    def test_quality(self):
        assert (
            self.p("clearly", "vaguely", quality=1.0)[0]
            > self.p("clearly", "so", quality=1.0)[0]
            > 1 / 3
        )

    def test_length(self):
        p_a, p_b, _ = self.p("one two three four five six seven", "one", length=1.0)
        assert np.log(p_a / p_b) == pytest.approx(np.log2(8 / 2), abs=1e-4)

    def test_order_effect_and_tie(self):
        assert np.log(np.divide(*self.p("x", "y", order_effect=0.7)[:2])) == pytest.approx(
            0.7, abs=1e-4
        )
        assert self.p("x", "y", tie=2.0)[2] == pytest.approx(np.exp(2) / (2 + np.exp(2)), abs=1e-6)

    def test_an_answer_without_words_has_a_utility_of_its_own(self):
        for silent in (None, "", " ", "...", "- -"):
            p_a, p_b, _ = self.p(silent, "x")
            assert np.log(p_a / p_b) == pytest.approx(judge.EMPTY, abs=1e-4)


class TestKnobs:
    def test_null_and_empty_answers(self, knobs):
        assert all(
            turn is None
            for v in votes(knobs(null_answers=1.0), 20)
            for a in v.shown[1:]
            for turn in a
        )
        assert all(
            turn == ""
            for v in votes(knobs(empty_answers=1.0), 20)
            for a in v.shown[1:]
            for turn in a
        )
        assert all(turn for v in votes(knobs(), 50) for cell in v.shown for turn in cell)
        share = np.mean(
            [a == [None] * len(a) for v in votes(knobs(null_answers=0.2), 400) for a in v.shown[1:]]
        )
        assert 0.15 < share < 0.25

    def test_several_turns(self, knobs):
        several = {len(v.shown[0]) for v in votes(knobs(several_turns=1.0))}
        assert several == {2, 3} and {len(v.shown[0]) for v in votes(knobs(several_turns=0.0))} == {
            1
        }
        assert all(
            len({len(cell) for cell in v.shown}) == 1 for v in votes(knobs(several_turns=0.5))
        )

    def test_better_first(self, knobs):
        def share(value: float) -> float:
            return np.mean(
                [
                    SKILL[v.models[0]] > SKILL[v.models[1]]
                    for v in votes(knobs(better_first=value), 400)
                ]
            )

        assert share(1.0) == 1 and share(0.0) == 0 and 0.4 < share(0.5) < 0.6
        assert all(v.models[0] != v.models[1] for v in votes(knobs()))

    def test_tie_and_order_effect_move_every_row(self, knobs):
        p, ties, first = (
            np.array([v.p for v in votes(knobs(**change))])
            for change in ({}, {"judge__tie": 2.0}, {"judge__order_effect": 1.0})
        )
        assert (ties[:, 2] > p[:, 2]).all()
        assert (first[:, 0] > p[:, 0]).all() and (first[:, 1] < p[:, 1]).all()

    def test_repeated_prompts(self, knobs):
        def distinct(**values: float) -> set[tuple[str, ...]]:
            return {tuple(v.shown[0]) for v in votes(knobs(several_turns=0.0, **values), 600)}

        popular = distinct(repeated_prompts=1.0, near_repeats=0.0)
        assert len(popular) <= authors._POPULAR < 500 < len(distinct(repeated_prompts=0.0))
        near = distinct(repeated_prompts=1.0, near_repeats=1.0)
        assert len(near - popular) > 100
        normal = {groups.normalise(prompt) for [prompt] in popular}
        assert np.mean([groups.normalise(prompt) in normal for [prompt] in near]) > 0.9

    def test_long_answers(self, knobs):
        usual, long = (
            np.mean(
                [
                    len(turn)
                    for v in votes(knobs(long_answers=share))
                    for cell in v.shown[1:]
                    for turn in cell
                ]
            )
            for share in (0.0, 1.0)
        )
        assert 3 < long / usual < 5

    def test_late_evidence_says_nothing_early(self, knobs):
        """How far from undecided the first half and last third of long answers are, for each."""

        def decided(share: float) -> tuple[float, float]:
            early, late = [], []
            for v in votes(knobs(long_answers=1.0, late_evidence=share, several_turns=0.0), 600):
                topic = judge.topic_of(v.shown[0])
                for [text] in v.shown[1:]:
                    on = [
                        judge.WORD_TOPIC[w] == topic
                        for w in judge.words(text)
                        if w in judge.WORD_TOPIC
                    ]
                    if len(on) >= 24:
                        early.append(abs(np.mean(on[: len(on) // 2]) - 0.5))
                        late.append(abs(np.mean(on[-len(on) // 4 :]) - 0.5))
            return np.mean(early), np.mean(late)

        (early_without, late_without), (early_with, late_with) = decided(0.0), decided(1.0)
        assert early_with < 0.6 * early_without
        assert late_with > 0.9 * late_without

    def test_every_kind_of_damage_but_loss_is_undone_by_repair(self, knobs):
        everything = dict.fromkeys(DAMAGE[:-1], 1.0)
        for name in DAMAGE[:-1]:
            assert all(self.repaired(v) == v.shown for v in votes(knobs(**{name: 1.0}), 60)), name
        assert all(
            self.repaired(v) == v.shown for v in votes(knobs(**everything, null_answers=0.1), 60)
        )
        lost = [self.repaired(v) != v.shown for v in votes(knobs(lossy=1.0), 60)]
        assert all(lost) and not any(
            self.repaired(v) != v.shown for v in votes(knobs(lossy=0.0), 60)
        )

    @staticmethod
    def repaired(v: arena.Vote) -> tuple[list, ...]:
        return tuple(
            [turn and repair(turn) for turn in parse(json.dumps(cell)).turns] for cell in v.stored
        )

    def test_each_kind_of_damage_is_its_own(self, knobs):
        for v in votes(knobs(mojibake=1.0), 40):
            for shown, stored in self.texts(v):
                assert (
                    stored == shown
                    if shown.isascii()
                    else stored in {damage.mojibake(shown, cp) for cp in (True, False)}
                )
        for v in votes(knobs(html_entities=1.0), 40):
            assert all(
                stored.isascii() and (shown.isascii() or "&" in stored)
                for shown, stored in self.texts(v)
            )
        pairs = [pair for v in votes(knobs(control_characters=1.0), 40) for pair in self.texts(v)]
        assert all(
            "".join(c for c in stored if c >= " " and c != "\x7f" or c in "\n\t") == shown
            for shown, stored in pairs
        )
        assert np.mean([shown != stored for shown, stored in pairs]) > 0.9
        nested = votes(knobs(nested_lists=1.0), 40)
        assert all(isinstance(cell[0], list) for v in nested for cell in v.stored)

    @staticmethod
    def texts(v: arena.Vote) -> list[tuple[str, str]]:
        return [
            pair
            for shown, stored in zip(v.shown, v.stored, strict=True)
            for pair in zip(shown, stored, strict=True)
        ]


class TestLexicon:
    def test_every_topical_word_belongs_to_one_topic_and_judges_nothing(self):
        words = [word for topic in lexicon.TOPICS.values() for word in topic]
        assert len(words) == len(set(words)) == len(lexicon.WORD_TOPIC)
        assert not set(lexicon.GOOD) & set(lexicon.BAD)
        assert not (set(lexicon.GOOD) | set(lexicon.BAD)) & set(words)
        assert len(lexicon.WORD_QUALITY) == len(lexicon.GOOD) + len(lexicon.BAD)

    def test_the_judge_reads_every_word_as_it_is_written(self):
        for word in (*lexicon.WORD_TOPIC, *lexicon.WORD_QUALITY):
            assert judge.words(
                f"- {word.upper() if word.upper().lower() == word else word}, ({word})."
            ) == [word, word]

    def test_templates_say_nothing_themselves(self):
        templates = "PROMPT_TEMPLATES FOLLOW_UPS OPENINGS CLAUSES ITEMS CODE".split()
        said = {
            word
            for name in templates
            for template in getattr(lexicon, name)
            for word in judge.words(template)
        }
        assert not said & (set(lexicon.WORD_TOPIC) | set(lexicon.WORD_QUALITY))

    def test_some_words_of_each_list_are_not_ascii(self):
        for words in (*lexicon.TOPICS.values(), lexicon.GOOD, lexicon.BAD):
            assert 0.25 < np.mean([not word.isascii() for word in words]) < 0.6

    def test_nobody_outside_the_arena_knows_its_words_or_its_models(self):
        own = REPOSITORY / "src/pairpref/data/arena"
        files = [
            path
            for folder in ("src", "stages")
            for path in (REPOSITORY / folder).rglob("*.py")
            if own not in path.parents
        ]
        assert len(files) > 20
        for path in files:
            named = named_in_imports(path.read_text(encoding="utf-8"))
            assert not {"arena.lexicon", "arena.authors", "arena.judge"} & named, path
        assert "arena.lexicon" in named_in_imports((own / "judge.py").read_text(encoding="utf-8"))


def named_in_imports(source: str) -> set[str]:
    """Last two parts of imported names, and attributes of any `arena`, which needs no import."""
    named: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            named += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            named += [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "arena"
        ):
            named.append(f"arena.{node.attr}")
    return {".".join(name.split(".")[-2:]) for name in named}


def test_no_model_name_reaches_the_pairs(here, small_params):
    import pandas as pd

    from pairpref.monitor import Log
    from stages.clean import clean
    from stages.simulate import simulate

    settings = small_params()
    simulate(settings, Log("simulate"))
    assert any(name in (here / settings.data.train).read_text(encoding="utf-8") for name in SKILL)
    clean(settings, Log("clean"))
    pairs = pd.read_parquet(paths.PAIRS)
    assert not [column for column in pairs if "model" in column]
    said = "\n".join(pairs[TEXTS].to_numpy().ravel())
    assert not [name for name in SKILL if name in said]


class TestFiles:
    @pytest.fixture
    def files(self, tmp_path, knobs):
        return written(tmp_path, knobs(null_answers=0.1, **dict.fromkeys(DAMAGE, 0.3)), 400, 600)

    def test_votes_are_in_kaggles_form(self, files):
        rows = table(files["train"])
        assert list(rows[0]) == ["id", "model_a", "model_b", *TEXTS, *WINNERS] and len(rows) == 400
        assert all(sorted(row[name] for name in WINNERS) == ["0", "0", "1"] for row in rows)
        assert all(isinstance(json.loads(row[name]), list) for row in rows for name in TEXTS)

    def test_pairs_to_predict_show_neither_model_nor_winner(self, files):
        rows = table(files["test"])
        assert list(rows[0]) == ["id", *TEXTS] and len(rows) == 600

    def test_the_solution_belongs_to_the_pairs(self, files):
        rows, pairs = table(files["solution"]), table(files["test"])
        assert list(rows[0]) == ["id", *WINNERS, "Usage"]
        assert [row["id"] for row in rows] == [row["id"] for row in pairs]
        assert all(sorted(row[name] for name in WINNERS) == ["0", "0", "1"] for row in rows)
        usage = [row["Usage"] for row in rows]
        assert (
            set(usage) == {"Public", "Private"}
            and abs(usage.count("Public") / 600 - arena.PUBLIC_SHARE) < 0.08
        )

    def test_the_truth_covers_both(self, files):
        rows = table(files["truth"])
        assert list(rows[0]) == ["id", *PROBABILITIES]
        assert [row["id"] for row in rows] == [
            row["id"] for name in ("train", "test") for row in table(files[name])
        ]
        assert all(abs(sum(float(row[name]) for name in PROBABILITIES) - 1) < 1e-9 for row in rows)
        assert all(len(row[name]) == 8 for row in rows for name in PROBABILITIES)

    def test_lines_end_as_on_every_machine(self, files):
        assert not any(b"\r" in content for content in files.values())
        assert all(content.endswith(b"\n") for content in files.values())


def test_any_number_of_rows_is_written_a_row_at_a_time(tmp_path, knobs):
    settings, alive, most = knobs(), 0, 0

    def gone():
        nonlocal alive
        alive -= 1

    def counted():
        nonlocal alive, most
        for row in range(300):
            vote = arena.vote(row, settings)
            weakref.finalize(vote, gone)
            alive += 1
            most = max(most, alive)
            yield vote

    arena.write(counted(), 200, *(tmp_path / f"{name}.csv" for name in NAMES))
    gc.collect()
    assert most <= 2 and alive == 0
