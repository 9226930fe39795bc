"""A param reruns the stages it changes and no others: dvc.yaml says what the code reads."""

from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from pairpref.monitor import Log
from pairpref.params import Params
from pairpref.training.fingerprint import Fingerprint
from pairpref.typed_yaml import Section, flat

ROOT = Path(__file__).parents[2]
DECLARED = {
    stage: tuple(entry.get("params", ()))
    for stage, entry in yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))[
        "stages"
    ].items()
}
# Params, or all others of a section, and the stages they change. The report shows every param.
CHANGES = {
    "data.train": "clean calibrate predict",
    "data.folds": "clean features",
    "data.truth": "calibrate predict",
    "data.test data.solution": "predict",
    "simulate": "simulate",
    "clean.utf8 clean.flatten": "clean train oof",
    "clean": "clean",
    "tokenize": "tokenize",
    "text": "train oof",
    "augment": "train oof",
    "model.backbone": "backbone tokenize train oof",
    "model.features": "features train oof",
    "model.revision": "backbone train oof",
    "model": "train oof",
    "train.seeds.0": "features train oof calibrate",
    "train.seeds.1": "features oof",
    "train": "train oof",
    "oof": "oof",
    "fusion": "features oof calibrate",
    "calibrate": "calibrate",
    "inference": "calibrate",
    "inference.max_length": "train oof",
    "predict": "predict",
    "report": "",
}
# Where work runs changes no byte of it.
FREE = "parallel."
# The first is read when params are loaded; the second is read for a hub name only.
UNREAD = {"data.train", "model.revision"}


def below(name: str, entry: str) -> bool:
    return name == entry or name.startswith(f"{entry}.")


def leaves(raw: dict) -> list[str]:
    """Every param by its dotted name, items of lists too; of train.seeds a further one."""
    raw["train"]["seeds"] = [0, 1]
    return [
        f"{name}.{item}" if isinstance(value, list) else name
        for name, value in flat(raw).items()
        for item in range(len(value) if isinstance(value, list) else 1)
    ]


@pytest.mark.fault(25)
def test_a_param_reruns_the_stages_it_changes(raw_params):
    known = {
        name: set(stages.split()) | {"report"}
        for names, stages in CHANGES.items()
        for name in names.split()
    }
    for leaf in leaves(raw_params()):
        if not leaf.startswith(FREE):
            expected = next(
                known[name] for name in sorted(known, key=len, reverse=True) if below(leaf, name)
            )
            assert {
                stage for stage, entries in DECLARED.items() if any(below(leaf, e) for e in entries)
            } == expected, leaf
    assert not any(
        below(FREE[:-1], entry) for stage in {*DECLARED} - {"report"} for entry in DECLARED[stage]
    )


def sections(section: Section, prefix: str = "") -> dict[int, str]:
    """The name of each section in some params, by the section's identity."""
    found = {id(section): prefix}
    for name in type(section).model_fields:
        if isinstance(value := getattr(section, name), Section):
            found |= sections(value, f"{prefix}{name}.")
    return found


class Spy:
    """The dotted names of params that are read; `hashed`: by a training's fingerprint."""

    def __init__(self, params: Params, patch: pytest.MonkeyPatch) -> None:
        self.read, self.hashed, prefixes = set(), set(), sections(params)
        into, seen, dump, of = (
            [self.read],
            Section.__getattribute__,
            Section.model_dump,
            Fingerprint.of,
        )

        def spied(section: Section, name: str) -> Any:
            value = seen(section, name)
            if (
                id(section) in prefixes
                and name in type(section).model_fields
                and not isinstance(value, Section)
            ):
                into[-1].add(prefixes[id(section)] + name)
            return value

        def dumped(section: Section, **options: Any) -> dict:
            found = dump(section, **options)
            into[-1].update(
                prefixes[id(section)] + name for name in flat(found) if id(section) in prefixes
            )
            return found

        def fingerprint(*arguments: Any) -> Fingerprint:
            into.append(self.hashed)
            try:
                return of(*arguments)
            finally:
                into.pop()

        patch.setattr(Section, "__getattribute__", spied)
        patch.setattr(Section, "model_dump", dumped)
        patch.setattr(Fingerprint, "of", fingerprint)


@pytest.fixture(scope="module")
def read(small_params, tmp_path_factory) -> dict[str, Spy]:
    """Every stage run on small data under a spy, with the classifier alone and with all members."""
    found: dict[str, Spy] = {}
    every = [("classifier",), ("classifier", "reward", "features")]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("spied"))
        Path("versions").mkdir()
        Path("versions/catalog.yaml").write_bytes((ROOT / "versions/catalog.yaml").read_bytes())
        for stage, members in product(DECLARED, every):
            settings = small_params(train__seeds=[0, 1], fusion__members=members)
            with pytest.MonkeyPatch.context() as spying:
                spy = Spy(settings, spying)
                getattr(import_module(f"stages.{stage}"), stage)(settings, Log("test"))
            before = found.setdefault(stage, spy)
            before.read, before.hashed = before.read | spy.read, before.hashed | spy.hashed
    return found


@pytest.mark.fault(25)
@pytest.mark.parametrize("stage", DECLARED)
def test_a_stage_declares_what_it_reads_and_nothing_else(read, stage):
    entries, spy = DECLARED[stage], read[stage]
    undeclared = {
        name
        for name in spy.read | spy.hashed
        if not any(below(name, e) or below(e, name) for e in entries)
    }
    assert not {name for name in undeclared if not name.startswith(FREE)}
    assert (
        not {e for e in entries if not any(below(name, e) or below(e, name) for name in spy.read)}
        - UNREAD
    )
