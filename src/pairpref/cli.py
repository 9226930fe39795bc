"""pairpref predict | bundle | export | compare | versions | params | recipe."""

import argparse
import sys
from importlib import import_module

_COMMANDS = {
    "predict": ("predict", "predict a file of pairs with the trained models"),
    "bundle": ("kaggle.__main__", "carry the trained models to a Kaggle notebook"),
    "export": ("export", "write one trained model as a Hugging Face folder"),
    "compare": ("compare", "compare two files of predictions, vote by vote"),
    "versions": ("versions.__main__", "list, replay, tag and compare the project's versions"),
    "params": ("params", "check params.yaml"),
    "recipe": ("recipes", "params for published backbones"),
}


def main() -> None:
    """Pass the arguments on to a command's own `main`, which is imported only then."""
    names = "\n".join(f"  {name:9} {about}" for name, (_, about) in _COMMANDS.items())
    top = parser("", f"commands:\n{names}", "pairpref predict --help")
    top.add_argument("command", choices=_COMMANDS, metavar="COMMAND")
    asked = top.parse_args(sys.argv[1:2])
    try:
        module = import_module(f"pairpref.{_COMMANDS[asked.command][0]}")
    except ModuleNotFoundError as error:
        from pairpref.errors import lacking

        if not (told := lacking(error)):
            raise
        sys.exit(f"pairpref {asked.command} {told}")
    module.main(sys.argv[2:])


def parser(command: str, about: str, example: str) -> argparse.ArgumentParser:
    """A parser whose help ends with an example; `about` and `example` are printed as they are."""
    return argparse.ArgumentParser(
        prog=f"pairpref {command}".strip(),
        description=about,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


if __name__ == "__main__":
    main()
