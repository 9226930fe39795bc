"""How a run went: times, rates, memory and package versions, from the stages' logs.

Kept apart from what a stage declares as an out, which is the same byte for byte.
"""

from collections.abc import Iterator

from pairpref import monitor

STAGES = "simulate clean baselines backbone tokenize train oof calibrate predict report".split()


def seconds() -> float:
    """Duration of all stages together, each at its last run on this machine."""
    return sum(_event(stage, "ended").get("at", 0.0) for stage in STAGES)


def tokens_per_second(stage: str = "train") -> float | None:
    """Rate of a stage's last run on this machine; None if there was none."""
    rates = [event.get("tokens_per_second") for event in monitor.last(stage)]
    return next((rate for rate in reversed(rates) if rate), None)


def markdown() -> str:
    """Each stage's last run on this machine: seconds, tokens/s, peak memory, package versions."""
    rows, versions = [], {}
    for stage in STAGES:
        ended, rate = _event(stage, "ended"), tokens_per_second(stage)
        figures = ((ended.get("at"), ",.1f"), (rate, ",.0f"), (ended.get("peak_mib"), ",.0f"))
        cells = (format(x, form) if x is not None else "·" for x, form in figures)
        rows.append(f"| {stage} | {' | '.join(cells)} |")
        for fact in (*_facts(_event(stage, "began")), *_facts(_event(stage, "training"))):
            versions.setdefault(fact, []).append(stage)
    lines = [
        "# How this run went",
        "",
        "Each stage's last run on this machine, from `logs/`. A dot: no figure, because the stage "
        "gives none, is still running, or its results came from the cache.",
        "",
        "| stage | seconds | tokens/s | peak memory, MiB |",
        "|---|---:|---:|---:|",
        *rows,
        "",
        "| what ran, and on what | version or value | in |",
        "|---|---|---|",
    ]
    for (name, value), stages in sorted(versions.items()):
        lines.append(f"| {name} | {value} | {'all' if stages == STAGES else ', '.join(stages)} |")
    return "\n".join([*lines, ""])


def _event(stage: str, name: str) -> dict:
    return next((event for event in monitor.last(stage) if event["event"] == name), {})


def _facts(event: dict) -> Iterator[tuple[str, str]]:
    for name, value in event.items():
        if name not in ("event", "at", "run", "steps"):
            yield name.replace("_", " "), str(value)
