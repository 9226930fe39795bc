"""The arena's words: what prompts and answers are about, and what makes an answer read well.

A topic is a list of related words. A prompt names some of them and a good answer uses *others* of
the same list: relevance can be learned from votes but not from string overlap. About one word in
three is accented or non-Latin, so damage to the encoding destroys evidence, as in real votes.

Nothing outside `pairpref.data.arena` may import this module (tested): a feature that knew these
words would be cheating.
"""

TOPICS: dict[str, tuple[str, ...]] = {
    name: tuple(words.split())
    for name, words in {
        "cooking": "oven broth simmer skillet dough garlic roast butter "
        "purée sauté jalapeño brûlée глазурь 豆腐",
        "astronomy": "orbit comet nebula eclipse asteroid quasar crater galaxy "
        "étoile périhélie planète mléčná телескоп 星座",
        "music": "melody chord rhythm violin tempo choir harmony octave "
        "étude flûte canção trémolo скрипка 旋律",
        "gardening": "seedling compost trellis mulch orchard hedge pruning bulb "
        "jardín pépinière gänseblümchen dünger рассада 盆栽",
        "medicine": "dosage symptom vaccine surgeon artery fever clinic insulin "
        "santé médecin übelkeit cirurgião диагноз 処方",
        "sailing": "anchor rudder keel harbour tide skipper mooring lagoon "
        "équipage timón bôme océan парус 帆船",
    }.items()
}

GOOD: tuple[str, ...] = tuple(
    "clearly precisely carefully reliably verified sourced tested "
    "vérifié gründlich évident точно 正確".split()
)
BAD: tuple[str, ...] = tuple(
    "vaguely wrongly sloppily randomly dunno muddled broken "
    "négligé ungefähr confusión небрежно 曖昧".split()
)

WORD_TOPIC: dict[str, str] = {word: topic for topic, words in TOPICS.items() for word in words}
WORD_QUALITY: dict[str, int] = {**dict.fromkeys(GOOD, 1), **dict.fromkeys(BAD, -1)}

PROMPT_TEMPLATES: tuple[str, ...] = (
    "How do {}, {} and {} belong together?",
    "Explain {}, {}, {} and {}.",
    "A short note on {} and {}, with {}, please.",
    "I confuse {} with {} and {}. Help?",
    "Three tips for {}, {} and {}.",
    "Compare {} and {} with {} and {}.",
    "Why does {} matter for {} and {}?",
    "My notes:\n- {}\n- {}\n- {}\n- {}\nWhat is missing?",
)
FOLLOW_UPS: tuple[str, ...] = (
    "And what about {} and {}?",
    "Thanks. Now add {}, {} and {}.",
    "Shorter, please, and mention {}.",
    "Does that change with {} or {}?",
)
OPENINGS: tuple[str, ...] = ("You asked about {}.", "On {}:", "Good question about {}.")
CLAUSES: tuple[str, ...] = (
    "{t} before {t}",
    "{q}, begin with {t}",
    "{t} goes with {t} and {t}",
    "first the {t}",
    "{t} is {q} part of it",
    "no {t} without {t}",
    "it is {q} said of {t}",
    "keep {t} near {t}",
)
ITEMS: tuple[str, ...] = ("- {t}, then {t}", "- {q}: {t}", "* {t} and {t}")
CODE: tuple[str, ...] = (
    '```python\nplan = ["{t}", "{t}"]\nif len(plan) < 3:\n    note("{q}")\n```',
    "```html\n<li>&lt;{t}&gt; {q}</li>\n```",
)
