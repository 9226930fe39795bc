"""YAML files as typed, frozen models, with errors of one line that name the key."""

import difflib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WrapValidator, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pairpref.errors import UserError

Model = TypeVar("Model", bound=BaseModel)


def plain(expected: str, fits: Callable[[Any], bool] = lambda value: True) -> WrapValidator:
    """One line in plain words in place of pydantic's; and true is no number, as it is in Python."""

    def check(value: Any, inner: Callable[[Any], Any]) -> Any:
        with suppress(ValidationError):
            if not isinstance(value, bool) and fits(found := inner(value)):
                return found
        raise PydanticCustomError("plain", expected)

    return WrapValidator(check)


Whole = Annotated[int, plain("expected a whole number")]
Number = Annotated[float, plain("expected a number")]
Share = Annotated[Number, Field(ge=0, le=1)]
Count = Annotated[Whole, Field(ge=1, le=10**7)]
Text = Annotated[str, Field(min_length=1), plain("expected text")]
Positive = Annotated[Number, Field(gt=0)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known(cls, section: Any) -> Any:
        known = [field.alias or name for name, field in cls.model_fields.items()]
        for key in section if isinstance(section, dict) else ():
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
                raise ValueError(f"unknown key {key}: {hint}")
        return section


def raw(path: Path) -> Any:
    """A YAML file as plain dicts and lists.

    Raises:
        UserError: it is missing, is not YAML, or has a key twice.
    """
    try:
        return YAML(typ="safe").load(path.read_text(encoding="utf-8"))  # as DVC reads it
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. Run from the repository's root.") from None
    except (YAMLError, ValueError) as error:  # not UTF-8, or a number of thousands of digits
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        where = f" line {mark.line + 1}:" if mark else ""
        what = " ".join(str(problem or error).split())
        raise UserError(f"{path}: not readable as YAML:{where} {what}") from None


def read(path: Path, model: type[Model]) -> Model:
    """Read and check a YAML file; errors as of `raw` and `validated`."""
    return validated(model, raw(path), str(path))


def validated(model: type[Model], raw: object, source: str) -> Model:
    """A model of plain dicts.

    Raises:
        UserError: a key or value is not allowed; a line for each, beginning with `source`.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        faults = error.errors()
        # A list of which an item is refused counts as too short as well.
        within = {fault["loc"][:i] for fault in faults for i in range(len(fault["loc"]))}
        lines = [f"{source}: {_explain(f)}" for f in faults if f["loc"] not in within]
        raise UserError("\n".join(lines)) from None


def flat(section: dict, prefix: str = "") -> dict[str, Any]:
    """Nested dicts by dotted names, as `dvc exp run -S` spells them."""
    found: dict[str, Any] = {}
    for key, value in section.items():
        name = f"{prefix}{key}"
        inside = isinstance(value, dict) and value  # an empty one is a value itself
        found |= flat(value, f"{name}.") if inside else {name: value}
    return found


def _explain(fault: ErrorDetails) -> str:
    name = ".".join(map(str, fault["loc"])) or "the whole file"
    message = fault["msg"].removeprefix("Value error, ")
    match fault["type"]:
        case "value_error":
            return f"{name}: {message}" if fault["loc"] else message
        case "missing":
            return f"{name} is missing"
        case "tuple_type":
            message = f"expected a list; write [{str(fault['input'] or 0).strip('[]')}]"
        case "model_type":
            message = "expected keys with values"
    found = "empty" if fault["input"] in (None, "") else repr(fault["input"])
    return f"{name} is {found}: {message[0].lower()}{message[1:]}"
