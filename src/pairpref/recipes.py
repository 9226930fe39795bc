"""Params for published backbones: pairpref recipe [NAME].

Without a name, lists recipes/*.yaml, with the memory and hours that a formula expects of each. With
one, writes its values into params.yaml; `dvc repro` then runs it. `git diff params.yaml` shows what
changed, `git restore params.yaml` undoes it.
"""

from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from pydantic import Field
from rich.console import Console
from rich.table import Table

from pairpref.cli import parser
from pairpref.errors import UserError, command, say
from pairpref.files import write_text
from pairpref.params import PARAMS, Params
from pairpref.typed_yaml import Section, read
from pairpref.versions.catalog import Changes, with_changes

FOLDER = Path("recipes")
_GIB = 2**30
_VOTES, _TOKENS = 57_477, 680  # the competition's votes, and tokens of a pair on average
_UTILISATION = 0.35  # share of a card's peak that training reaches


@dataclass(frozen=True)
class Card:
    name: str
    memory: float  # GiB
    flops: float  # a second at its peak in half precision


CARDS = (Card("T4", 15, 65e12), Card("A100", 39, 312e12), Card("H100", 79, 989e12))


class Recipe(Section):
    about: str
    parameters: float = Field(gt=0, description="weights of the backbone")
    changes: Changes


def load(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        UserError: there is none, or it is damaged.
    """
    names = sorted(path.stem for path in FOLDER.glob("*.yaml"))
    if name not in names:
        raise UserError(f"no recipe {name!r}; there are {', '.join(names) or 'none here'}.")
    return read(FOLDER / f"{name}.yaml", Recipe)


def memory(recipe: Recipe, params: Params) -> float:
    """GiB that training takes, by a formula.

    Weights: 16 bytes each where they are trained (value, gradient and two moments in float32), else
    4, 1 or 0.55 by model.quantize. Activations of fused attention: 34 bytes for each token, hidden
    unit and layer (Korthikanti et al. 2022, "Reducing Activation Recomputation in Large Transformer
    Models", without the attention's quadratic part); with gradient checkpointing 2, and 34 of one
    layer.
    """
    layers, hidden = _shape(recipe.parameters)
    frozen = {"none": 4.0, "8bit": 1.0, "4bit": 0.55}[params.model.quantize]
    weights = recipe.parameters * (frozen if params.model.lora.r else 16)
    adapters = 16 * params.model.lora.r * layers * hidden * 18  # seven matrices, both sides
    sequences = params.train.batch_size * (
        1 + (params.augment.ab and params.augment.mode == "both")
    )
    tokens = sequences / params.train.gradient_accumulation_steps * params.model.max_length
    kept = 2 * layers + 34 if _checkpointed(params) else 34 * layers
    return (weights + adapters + tokens * hidden * kept) / _GIB


def hours(recipe: Recipe, params: Params, card: Card) -> float:
    """Of all folds on the competition's votes, by a formula.

    6 operations for each weight and token, 4 where weights are frozen; a third of the forward and
    backward pass more with gradient checkpointing. `_UTILISATION` of the card's peak.
    """
    shown = 1 + (params.augment.ab and params.augment.mode == "both")
    share = (params.data.folds - 1) / params.data.folds * params.oof.folds
    tokens = _VOTES * share * params.train.epochs * shown * min(_TOKENS, params.model.max_length)
    operations = (4 if params.model.lora.r else 6) + 2 * _checkpointed(params)
    return operations * recipe.parameters * tokens / (card.flops * _UTILISATION) / 3600


def _shape(parameters: float) -> tuple[int, int]:
    """Layers and hidden size that a transformer of this size has, roughly."""
    for limit, layers, hidden in ((2e8, 12, 768), (5e8, 24, 1024), (8e9, 28, 3584)):
        if parameters <= limit:
            return layers, hidden
    return 42, 3584


def _checkpointed(params: Params) -> bool:
    names = ("activation_checkpointing", "gradient_checkpointing")  # Trainer's, now and before
    return any(params.train.arguments.get(name) for name in names)


def applied(recipe: Recipe, name: str) -> tuple[str, Params]:
    """The text of params.yaml with a recipe's values, and the params it gives.

    What only other recipes set has its default again, so that none of them is left over.
    """
    import yaml

    others = {key for path in FOLDER.glob("*.yaml") for key in load(path.stem).changes}
    defaults = {key: reduce(getattr, key.split("."), Params()) for key in sorted(others)}
    changes = defaults | recipe.changes
    text = with_changes(PARAMS.read_text(encoding="utf-8"), changes, f"the recipe {name}")
    return text, Params.model_validate(yaml.safe_load(text))


def show() -> None:
    """List the recipes."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("recipe", no_wrap=True)
    for column in ("GiB", *(f"h, {card.name}" for card in CARDS)):
        table.add_column(column, justify="right", no_wrap=True)
    for path in sorted(FOLDER.glob("*.yaml")):
        recipe = load(path.stem)
        _, params = applied(recipe, path.stem)
        needs = memory(recipe, params)
        fits = [
            f"{hours(recipe, params, card):.1f}" if needs < card.memory else "–" for card in CARDS
        ]
        table.add_row(path.stem, f"{needs:.0f}", *fits)
    Console().print(table)
    say(
        f"Expected by a formula, not measured: hours (h) for {_VOTES:,} votes and the recipe's\n"
        f"folds at {_UTILISATION:.0%} of a card's peak; – does not fit. {FOLDER}/ has the reasons."
    )


def main(argv: list[str] | None = None) -> None:
    arguments = parser("recipe", (__doc__ or "").strip(), "pairpref recipe deberta-v3-base")
    arguments.add_argument("name", nargs="?", help="the recipe to write into params.yaml")
    asked = arguments.parse_args(argv)
    with command("recipe"):
        if asked.name is None:
            return show()
        recipe = load(asked.name)
        write_text(PARAMS, applied(recipe, asked.name)[0])
        say(f"params.yaml is set for {asked.name}. Next: dvc repro")


if __name__ == "__main__":
    main()
