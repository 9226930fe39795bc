"""versions/catalog.yaml as typed, frozen models: what each version is, and what its params are."""

import io
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, StringConstraints, model_validator
from ruamel.yaml import YAML

from pairpref.errors import UserError
from pairpref.params import Params
from pairpref.paths import CATALOG
from pairpref.typed_yaml import Section, flat, read, validated

Name = Annotated[str, StringConstraints(pattern=r"^v\d+(\.\d+)+$")]
Key = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
Changes = dict[str, Any]  # dotted names of params and their values

EPOCH = ("epoch", "train_loss", "validation_loss", "log_loss", "accuracy", "f1_macro")


class Published(Section):
    """Figures as documented. They are shown beside the measured ones, never computed with."""

    log_loss: float
    accuracy: float
    f1_macro: float
    epochs: tuple[tuple[int, float, float, float, float, float], ...] = Field(
        default=(), description=f"rows of {', '.join(EPOCH)}"
    )


class Version(Section):
    parent: Name | None = None
    milestone: str | None = None
    changes: Changes = Field(min_length=1, description="dotted names of params and their values")
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    hypothesis: str = Field(min_length=1, description="what the version should show")
    published: Published | None = None
    assumed: dict[str, str] = {}  # what the documentation leaves open, and what is taken
    conclusion: str = ""

    @property
    def modules(self) -> list[str]:
        return [*self.added, *(f"without {module}" for module in self.removed)]


class Milestone(Section):
    expects: str = Field(description="the roadmap's words")
    adds: str = ""


class Expectation(Section):
    sign: Literal["-", "0", "+"] = Field(description="of the change of log loss with the feature")
    because: str


class Claim(Section):
    log_loss: float
    f1_macro: float
    note: str = ""


class Feature(Section):
    """What one switch does: two runs that differ in it alone."""

    name: str
    of: Name = Field(description="the version that both sides begin with")
    setting: Changes = {}  # of both sides
    with_: Changes = Field(default={}, alias="with")
    without: Changes = {}
    expect: Expectation
    claimed: Claim | None = None
    conclusion: str = ""


class Catalog(Section):
    anchor: Name
    versions: dict[Name, Version]
    milestones: dict[str, Milestone] = {}
    features: dict[Key, Feature] = {}
    unchanging: dict[str, str] = {}  # features that change nothing: the test that shows it

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        root, *later = names = list(self.versions)
        if parent := self.versions[root].parent:
            raise ValueError(f"{root} comes first, so it cannot have the parent {parent}")
        for name in later:
            version = self.versions[name]
            if version.parent not in names[: names.index(name)]:
                raise ValueError(
                    f"{name} has the parent {version.parent}; expected a version listed above it"
                )
            if unset := sorted(set(version.changes) - set(self.versions[root].changes)):
                raise ValueError(
                    f"{name} changes {', '.join(unset)}, so {root} must set it too: "
                    "otherwise older versions would follow params.yaml"
                )
        known: Mapping[str, object] = self.versions
        references = [("the anchor is", self.anchor, known)]
        for name, version in self.versions.items():
            if version.milestone is not None:
                references.append((f"{name} is the milestone", version.milestone, self.milestones))
        for key, feature in self.features.items():
            references.append((f"the feature {key} is of", feature.of, self.versions))
        for text, name, known in references:
            if name not in known:
                raise ValueError(f"{text} {name}; expected one of {', '.join(known)}")
        return self

    def changes(self, name: str) -> Changes:
        """A version's params where they differ from params.yaml: its own and its ancestors'."""
        version = self.versions[name]
        return (self.changes(version.parent) if version.parent else {}) | version.changes

    def sides(self, key: str) -> tuple[Changes, Changes]:
        """The two runs of a feature, with it and without it, as changes to params.yaml."""
        feature = self.features[key]
        both = self.changes(feature.of) | feature.setting
        return both | feature.with_, both | feature.without

    def ordered(self) -> list[str]:
        """Versions in natural order: v5.0, v17.0, v17.1, v18.0."""
        return natural(self.versions)


def natural(names: Iterable[str]) -> list[str]:
    """Version names sorted by their numbers."""
    return sorted(names, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])


def load(path: Path = CATALOG) -> Catalog:
    """Read and check the catalog.

    Raises:
        UserError: it is missing or holds something that is not allowed; one line per fault.
    """
    return read(path, Catalog)


def with_changes(text: str, changes: Changes, whose: str) -> str:
    """The text of params.yaml with other values of params that it has; comments and layout stay.

    Args:
        whose: named in errors, e.g. "v5.0".

    Raises:
        UserError: a change names an unknown param or sets a value that is not allowed.
    """
    editor = YAML()
    editor.width, editor.preserve_quotes = 4096, True
    null = ("tag:yaml.org,2002:null", "null")
    editor.representer.add_representer(type(None), lambda of, _: of.represent_scalar(*null))
    content = editor.load(text)
    known = flat(content)
    for name, value in changes.items():
        inside = isinstance(value, dict) and any(key.startswith(f"{name}.") for key in known)
        if name not in known and not inside:
            raise UserError(
                f"{whose} sets {name}, but params.yaml has no such param: "
                "today's pipeline cannot run this version."
            )
        *sections, key = name.split(".")
        section = content
        for part in sections:
            section = section[part]
        # A small float in a form that both YAML 1.1 and 1.2 read as a number.
        small = isinstance(value, float) and 0 < abs(value) < 1e-3
        section[key] = editor.load(np.format_float_scientific(value, trim="0")) if small else value
    out = io.StringIO()
    editor.dump(content, out)
    validated(Params, YAML(typ="safe").load(out.getvalue()), f"{whose} ({CATALOG})")
    return out.getvalue()


def spelled(changes: Changes) -> str:
    """Changes as `-S` takes them: train.lr=3e-05, augment.mode=both."""

    def one(value: object) -> str:
        if isinstance(value, float):
            return f"{value:g}"
        return value if isinstance(value, str) else json.dumps(value)

    return ", ".join(f"{name}={one(value)}" for name, value in changes.items())
