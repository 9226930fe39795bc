"""YAML files as typed, frozen models, with errors of one line that name the key."""

import difflib
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pairpref.errors import UserError

Model = TypeVar("Model", bound=BaseModel)


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def raw(path: Path) -> Any:
    """A YAML file as plain dicts and lists.

    Raises:
        UserError: it is missing, is not YAML, or has a key twice.
    """
    try:
        return YAML(typ="safe").load(path.read_text(encoding="utf-8"))  # as DVC reads it
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. Run from the repository's root.") from None
    except (YAMLError, UnicodeDecodeError) as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        where = f" line {mark.line + 1}:" if mark else ""
        what = " ".join(str(problem or error).split())
        raise UserError(f"{path}: not readable as YAML:{where} {what}") from None


def read(path: Path, model: type[Model]) -> Model:
    """Read and check a YAML file.

    Raises:
        UserError: as `raw` and `validated`.
    """
    return validated(model, raw(path), str(path), from_file=True)


def validated(model: type[Model], raw: object, source: str, from_file: bool = False) -> Model:
    """A model of plain dicts.

    Args:
        source: what errors begin with.
        from_file: also refuse what DVC can't read from a file.

    Raises:
        UserError: a key or value is not allowed; a line for each, beginning with `source`.
    """
    try:
        return model.model_validate(raw, context=from_file)
    except ValidationError as error:
        lines = [f"{source}: {_explain(fault, model)}" for fault in error.errors()]
        raise UserError("\n".join(lines)) from None


def flat(section: dict, prefix: str = "") -> dict[str, Any]:
    """Nested dicts by dotted names, as `dvc exp run -S` spells them."""
    found: dict[str, Any] = {}
    for key, value in section.items():
        name = f"{prefix}{key}"
        found |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return found


def _explain(fault: ErrorDetails, model: type[BaseModel]) -> str:
    *sections, key = [str(part) for part in fault["loc"]] or ["the whole file"]
    name, message = ".".join([*sections, key]), fault["msg"].removeprefix("Value error, ")
    match fault["type"]:
        case "extra_forbidden":
            known = list(_fields(sections, model))
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {'.'.join([*sections, *near])}?"
            return f"unknown key {name}: {hint if near else 'known here: ' + ', '.join(known)}"
        case "missing":
            return f"{name} is missing"
        case "tuple_type":
            return f"{name} is {fault['input']!r}: expected a list; write [{fault['input']}]"
        case "value_error" if not fault["loc"]:
            return message
        case _:
            return f"{name} is {fault['input']!r}: {message[0].lower()}{message[1:]}"


def _fields(sections: list[str], model: Any) -> dict:
    for part in sections:
        # In a dict of models the part is a key; its values' type has the fields.
        is_dict = get_origin(model) is dict
        model = get_args(model)[1] if is_dict else model.model_fields[part].annotation
    return (get_args(model)[0] if get_origin(model) in (Union, UnionType) else model).model_fields
