"""versions.yaml as typed, frozen models: what each version is, and what its params are."""

import copy
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from pairpref.errors import UserError
from pairpref.params import Params
from pairpref.typed_yaml import Section, flat, read, validated

CATALOG = Path("versions.yaml")

Name = Annotated[str, StringConstraints(pattern=r"^v\d+(\.\d+)+$")]
Key = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
Changes = dict[str, Any]

COLUMNS = ("epoch", "train_loss", "validation_loss", "log_loss", "accuracy", "f1_macro")


class Published(Section):
    """Figures as documented; they are compared with, never computed with."""

    log_loss: float
    accuracy: float
    f1_macro: float
    epochs: tuple[tuple[int, float, float, float, float, float], ...] = Field(
        default=(), description=f"rows of {', '.join(COLUMNS)}"
    )


class Version(Section):
    parent: Name | None = None
    milestone: str | None = None
    changes: Changes = Field(min_length=1, description="dotted names of params and their values")
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    hypothesis: str = Field(
        min_length=1, description="what the version is to show, against its parent"
    )
    published: Published | None = None
    assumed: dict[str, str] = Field(
        default={},
        description="what is open or contradictory in the documentation, and what is taken",
    )


class Milestone(Section):
    expects: str = Field(description="the roadmap's words")
    adds: str = ""
    log_loss: tuple[float, float] | None = Field(
        default=None, description="the expected change of log loss, from and to"
    )


class Expectation(Section):
    sign: Literal["-", "0", "+"] = Field(
        description="of the change of log loss with the feature on"
    )
    because: str


class Claim(Section):
    log_loss: float
    f1_macro: float
    note: str = ""


class Feature(Section):
    """What one switch does: two runs that differ in it alone."""

    name: str
    of: Name = Field(description="the version that both sides begin with")
    setting: Changes = Field(default={}, description="changes of both sides")
    with_: Changes = Field(default={}, alias="with")
    without: Changes = {}
    expect: Expectation
    claimed: Claim | None = None


class Catalog(Section):
    anchor: Name
    versions: dict[Name, Version]
    milestones: dict[str, Milestone] = {}
    features: dict[Key, Feature] = {}
    unchanging: dict[str, str] = Field(
        default={}, description="features that change nothing, and the test that shows it"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        root, *later = self.versions
        for before, name in enumerate(self.versions):
            parent = self.versions[name].parent
            if name == root and parent is not None:
                raise ValueError(f"{name} comes first, so it can have no parent")
            if name != root and parent not in list(self.versions)[:before]:
                raise ValueError(
                    f"{name} has the parent {parent}, which should be one of the versions above it"
                )
        for name in later:
            if unset := sorted(set(self.versions[name].changes) - set(self.versions[root].changes)):
                raise ValueError(
                    f"{name} changes {', '.join(unset)}, so {root} must set it too, or older versions would follow params.yaml"
                )
        if self.anchor not in self.versions:
            raise ValueError(
                f"the anchor {self.anchor} is none of the versions: {', '.join(self.versions)}"
            )
        for key, feature in self.features.items():
            if feature.of not in self.versions:
                raise ValueError(
                    f"the feature {key} is of {feature.of}, which is none of the versions"
                )
        for name, version in self.versions.items():
            if version.milestone is not None and version.milestone not in self.milestones:
                raise ValueError(
                    f"{name} is the milestone {version.milestone}, which is none of: {', '.join(self.milestones)}"
                )
        return self

    def changes(self, name: str) -> Changes:
        """All that sets a version apart from params.yaml: its own changes over those of its ancestors."""
        version = self.versions[name]
        return (self.changes(version.parent) if version.parent else {}) | version.changes

    def sides(self, key: str) -> tuple[Changes, Changes]:
        """A feature's two sides, with it and without it, as changes to params.yaml."""
        feature = self.features[key]
        both = self.changes(feature.of) | feature.setting
        return both | feature.with_, both | feature.without

    def ordered(self) -> list[str]:
        """Versions in natural order: v5.0, v17.0, v17.1, v18.0."""
        return natural(self.versions)


def natural(names: Iterable[str]) -> list[str]:
    """Version names by their numbers."""
    return sorted(names, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])


def load(path: Path = CATALOG) -> Catalog:
    """Read and check versions.yaml.

    Raises:
        UserError: it is missing or holds what is not allowed; one line a fault.
    """
    return read(path, Catalog)


def changed(raw: Mapping[str, Any], changes: Changes, whose: str) -> dict[str, Any]:
    """What params.yaml holds, with changes.

    Args:
        raw: what it holds.
        whose: named in errors, e.g. "v5.0".

    Raises:
        UserError: a change names no param of today, or gives it a value that is not allowed: such a version can't be run.
    """
    result, known = copy.deepcopy(dict(raw)), flat(raw)
    for name, value in changes.items():
        if name not in known:
            raise UserError(
                f"{whose} sets {name}, which is no param of params.yaml: today's pipeline cannot express this version."
            )
        *sections, key = name.split(".")
        section = result
        for part in sections:
            section = section[part]
        section[key] = value
    validated(Params, result, f"{whose} (versions.yaml)")
    return result


def spelled(changes: Changes) -> str:
    """Changes as `-S` spells them: train.lr=3e-05, augment.mode=both."""
    return ", ".join(
        f"{name}={f'{value:g}' if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)}"
        for name, value in changes.items()
    )
