"""The laws of repair, over texts of the arena, hand-made corners and hypothesis's examples."""

from random import Random

import ftfy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairpref.data.arena import damage, vote
from pairpref.data.repair import _decoded, repair, repair_and_explain
from pairpref.params import JudgeParams, SimulateParams

ARENA = SimulateParams(
    seed=11, rows=1, test_rows=1, repeated_prompts=0.3, near_repeats=0.5, several_turns=0.3,
    long_answers=0.1, late_evidence=0.3, null_answers=0.0, empty_answers=0.02, better_first=0.5,
    mojibake=0.4, html_entities=0.3, control_characters=0.3, nested_lists=0.0, lossy=0.0,
    judge=JudgeParams(relevance=5, quality=2, length=0.2, order_effect=0, tie=0.3),
)  # fmt: skip


def _arena_texts(rows: int) -> list[tuple[str, str]]:
    """(as shown, as stored) of every text in so many rows."""
    votes = [vote(row, ARENA) for row in range(rows)]
    return [
        pair
        for v in votes
        for shown, stored in zip(v.shown, v.stored, strict=True)
        for pair in zip(shown, stored, strict=True)
    ]


def test_arena_text_survives_and_its_damage_is_undone():
    pairs = _arena_texts(400)
    assert sum(shown != stored for shown, stored in pairs) > 300
    for shown, stored in pairs:
        assert repair(shown) == shown
        assert repair(stored) == shown


@pytest.mark.parametrize(
    "kind", ["entities", "windows-1252", "latin-1", "controls", "mojibake with controls"]
)
def test_each_damage_is_undone_in_every_arena_text(kind):
    rng = Random(kind)
    wreck = {
        "entities": lambda text: damage._entities(rng, text),
        "windows-1252": lambda text: damage.mojibake(text, cp1252=True),
        "latin-1": lambda text: damage.mojibake(text, cp1252=False),
        "controls": lambda text: damage._controls(rng, text),
        "mojibake with controls": lambda text: damage._controls(
            rng, damage.mojibake(text, cp1252=rng.random() < 0.5)
        ),
    }[kind]
    for shown, _ in _arena_texts(200):
        assert repair(wreck(shown)) == shown


# Any text, with what repair acts on made frequent: surrogates, controls, mojibake, entities.
TEXTS = st.lists(
    st.one_of(
        st.text(max_size=5),
        st.characters(categories=["Cs", "Cc"]),
        st.sampled_from(
            [
                "Ã©",
                "â€™",
                "&eacute;",
                "&lt;",
                "&#233;",
                "&#",
                ";",
                "&Atilde;",
                "&copy;",
                "\r",
                "\r\n",
                "\u2028",
                "\ufeff",
            ]
        ),
        st.text(max_size=8).map(
            lambda text: damage.mojibake(text.encode(errors="ignore").decode(), cp1252=True)
        ),
    ),
    max_size=8,
).map("".join)


@settings(max_examples=400)
@given(TEXTS)
def test_repairing_twice_is_repairing_once(text):
    once, kinds = repair_and_explain(text)
    assert repair_and_explain(once) == (once, set())
    assert bool(kinds) == (once != text)


@settings(max_examples=400)
@given(TEXTS)
def test_no_mojibake_that_ftfy_finds_is_skipped(text):
    assert _decoded(text) == "\n".join(map(ftfy.fix_encoding, text.split("\n")))


@settings(max_examples=400)
@given(TEXTS)
def test_repaired_text_can_be_stored_and_holds_no_controls(text):
    repaired = repair(text)
    assert repaired.encode().decode() == repaired
    assert not any(ord(c) < 32 and c not in "\n\t" or 127 <= ord(c) < 160 for c in repaired)


@settings(max_examples=200)
@given(
    st.text(
        alphabet=st.characters(codec="ascii", exclude_categories=["Cc"]) | st.sampled_from("\n\t")
    )
)
def test_plain_ascii_stays(text):
    assert repair(text) == text


@pytest.mark.parametrize(
    "code",
    [
        "if a < b && c > d: print('“x”')",
        "&lt;b&gt; &amp;eacute; &quot;&#39;&#60; &notanentity; & AT&T;",
        "‘curly’ “quotes” ﬁne ｆｕｌｌ－ｗｉｄｔｈ … x² ½ Ⅻ",
        "naïve café – ÀÉÎ, 豆腐 глазурь 👩‍🚀 🏴\U000e0067\U000e0062\U000e007f",
        "printf('\\033[0m \\x00')",
    ],
)
def test_code_and_typography_stay(code):
    assert repair_and_explain(code) == (code, set())


@pytest.mark.parametrize(
    ("damaged", "repaired", "kinds"),
    [
        ("\ud83d\ude00", "😀", {"surrogates"}),
        ("a\ud83db", "a\ufffdb", {"surrogates"}),
        ("a\r\nb\rc", "a\nb\nc", {"newlines"}),
        ("a\x00b\x7f\x0b", "ab", {"controls"}),
        ("it\x92s", "it’s", {"mojibake"}),
        ("caf&eacute; &#233; &#xE9;", "café é é", {"entities"}),
        ("voilÃ\xa0 brÃ»lÃ©e", "voilà brûlée", {"mojibake"}),
        ("&Atilde;&copy;tude", "étude", {"entities", "mojibake"}),
    ],
)
def test_damage_is_named(damaged, repaired, kinds):
    assert repair_and_explain(damaged) == (repaired, kinds)


def test_without_utf8_only_surrogates_are_seen_to():
    assert repair_and_explain("caf&eacute; Ã©\x00\ud83d", utf8=False) == (
        "caf&eacute; Ã©\x00\ufffd",
        {"surrogates"},
    )
