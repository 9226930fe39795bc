"""How a run went: times, rates, memory and versions, from the stages' logs. Never part of what a stage declares as an out."""

from collections.abc import Iterator

from pairpref import monitor

STAGES = (
    "simulate",
    "clean",
    "baselines",
    "backbone",
    "tokenize",
    "train",
    "oof",
    "calibrate",
    "predict",
    "report",
)


def seconds() -> float:
    """How long the stages took together, each at its last run on this machine."""
    return sum(
        event["at"]
        for stage in STAGES
        for event in monitor.last(stage)
        if event["event"] == "ended"
    )


def tokens_per_second() -> float | None:
    """Rate of the last training run; None when there was none on this machine."""
    rates = [
        event["tokens_per_second"]
        for event in monitor.last("train")
        if event.get("tokens_per_second")
    ]
    return rates[-1] if rates else None


def markdown() -> str:
    """Each stage's last run on this machine as Markdown: seconds, tokens/s, peak memory, and the versions of what ran."""
    rows, versions = [], {}
    for stage in STAGES:
        began, ended = (_find(stage, name) for name in ("began", "ended"))
        rates = [
            event["tokens_per_second"]
            for event in monitor.last(stage)
            if event.get("tokens_per_second")
        ]
        rows.append(
            f"| {stage} | {_number(ended, 'at', ',.1f')} | {f'{rates[-1]:,.0f}' if rates else '·'} "
            f"| {_number(ended, 'peak_mib', ',.0f')} |"
        )
        for name, value in (*_facts(began), *_facts(_find(stage, "training"))):
            versions.setdefault((name, value), []).append(stage)
    return "\n".join(
        [
            "# How this run went",
            "",
            "Each stage's last run on this machine, from `logs/`. A dot: no figure, because the stage does not give one, is "
            "still running, or its results came from the cache.",
            "",
            "| stage | seconds | tokens/s | peak memory, MiB |",
            "|---|---:|---:|---:|",
            *rows,
            "",
            "| what ran, and on what | version or value | in |",
            "|---|---|---|",
            *(
                f"| {name} | {value} | {'all' if stages == list(STAGES) else ', '.join(stages)} |"
                for (name, value), stages in sorted(versions.items())
            ),
            "",
        ]
    )


def _find(stage: str, name: str) -> dict:
    return next((event for event in monitor.last(stage) if event["event"] == name), {})


def _number(event: dict, field: str, form: str) -> str:
    return format(event[field], form) if field in event else "·"


def _facts(event: dict) -> Iterator[tuple[str, str]]:
    yield from (
        (name.replace("_", " "), str(value))
        for name, value in event.items()
        if name not in ("event", "at", "run", "steps")
    )
