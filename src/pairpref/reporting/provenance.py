"""How a run went: times, rates, memory and package versions, from the stages' logs.

Kept apart from what a stage declares as an out, which is the same byte for byte.
"""

from pairpref import monitor
from pairpref.reporting.page import environment

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
    rows = []
    versions: dict[tuple[str, str], list[str]] = {}
    for stage in STAGES:
        ended = _event(stage, "ended")
        rows.append((stage, ended.get("at"), tokens_per_second(stage), ended.get("peak_mib")))
        for name, value in (_event(stage, "began") | _event(stage, "training")).items():
            if name not in ("event", "at", "run", "steps"):
                versions.setdefault((name.replace("_", " "), str(value)), []).append(stage)
    template = environment(False).get_template("run.md.j2")
    return template.render(rows=rows, versions=sorted(versions.items()), stages=STAGES)


def _event(stage: str, name: str) -> dict:
    return next((event for event in monitor.last(stage) if event["event"] == name), {})
