"""python -m pairpref.versions list | replay [ID…] | impact | tag | table | check | leaderboard

What each version is, what it measured, and how to run it again.
"""

import argparse
import inspect
import shutil
import signal
import sys
import textwrap

import pandas as pd

from pairpref import cli, errors, params, stopping
from pairpref.errors import UserError
from pairpref.monitor import Log
from pairpref.paths import LEADERBOARD
from pairpref.versions import catalog as catalogs
from pairpref.versions import predictions, tables
from pairpref.versions.catalog import Catalog, natural, spelled
from pairpref.versions.git import Repository
from pairpref.versions.results import VersionResults, predictions_path

REFUSED = 2
_PROGRAM = "python -m pairpref.versions"


def list_versions(catalog: Catalog, _: argparse.Namespace) -> None:
    """What each version is, changes, should show and did show

    Example: python -m pairpref.versions list
    """
    settings = params.load().model_dump(mode="json")
    for name in catalog.versions:
        catalogs.changed(settings, catalog.changes(name), name)
    for row in VersionResults.load(catalog, features=False).rows:
        version = row.version
        milestone = f", milestone {version.milestone}" if version.milestone else ""
        print(f"{row.name}{f' from {version.parent}' if version.parent else ''}{milestone}")
        lines = {
            "modules": ", ".join(version.modules),
            "params": spelled(version.changes),
            "hypothesis": version.hypothesis,
            **{f"assumed {what}": why for what, why in version.assumed.items()},
            "measured": f"log loss {tables.spread(row, 'log_loss_final')}" if row.measured else "",
            "conclusion": version.conclusion,
        }
        for title, text in lines.items():
            if text:
                print(textwrap.fill(f"    {title}: {text}", 100, subsequent_indent=" " * 8))
    print("\nThe other 13 of the 22 versions are not documented.")


def replay(catalog: Catalog, arguments: argparse.Namespace) -> None:
    """Run versions again: params, pipeline, commit, tag

    Up-to-date versions are skipped. Ctrl-C is safe: the same command resumes.

    Example: python -m pairpref.versions replay v17.0 v18.0
    """
    from pairpref.versions.replay import session

    if unknown := [name for name in arguments.names if name not in catalog.versions]:
        known = ", ".join(catalog.ordered())
        raise UserError(f"unknown version {', '.join(unknown)}; the catalog has {known}.")
    log = Log("replay")
    with session(catalog, log) as running:
        running.versions(arguments.names or list(catalog.versions))
    log.end()


def impact(catalog: Catalog, _: argparse.Namespace) -> None:
    """Run the pipeline with and without each feature, all else equal

    The versions that features start from must be replayed first.

    Example: python -m pairpref.versions impact
    """
    from pairpref.versions.replay import session

    log = Log("impact")
    with session(catalog, log) as running:
        running.impact()
    log.end()


def tag(catalog: Catalog, arguments: argparse.Namespace) -> None:
    """Restore the versions' tags from their commits

    Example: python -m pairpref.versions tag
    """
    repository = Repository()
    found = {n: commit for n, commit in repository.versions().items() if n in catalog.versions}
    made, left = repository.tag(found, arguments.move)
    if made:
        print(f"tagged {', '.join(natural(made))}")
    if left:
        print(
            f"{', '.join(natural(left))}: the tag is not on the version's newest commit here; "
            f"`{_PROGRAM} tag --move` moves it"
        )
    if not made and not left:
        print("nothing to do: every version in this history has its tag")
    if repository.git("rev-parse", "--is-shallow-repository") == "true":
        print("This clone is shallow: `git fetch --unshallow` brings the commits that it lacks.")


def table(catalog: Catalog, arguments: argparse.Namespace) -> None:
    """All versions: measured, against the anchor, and published

    Example: python -m pairpref.versions table --csv > versions.csv
    """
    results = VersionResults.load(catalog, features=False)
    if arguments.csv:
        frame = tables.numbers(results)
        frame.to_csv(sys.stdout, index=False, float_format="%.6f", lineterminator="\n")
    elif arguments.md:
        print(tables.summary(results).to_markdown(index=False, disable_numparse=True))
    else:
        _print(tables.summary(results).drop(columns="before calibration"))


def check(catalog: Catalog, arguments: argparse.Namespace) -> int:
    """Whether the current run is worse than a version, beyond chance

    Exits with 1 if it is, with 2 if they don't compare, otherwise with 0.

    Example: python -m pairpref.versions check --against v5.0
    """
    name = arguments.against or catalog.anchor
    path = predictions_path(name)
    # A commit older than the version's lacks its predictions, but its tag has them.
    source = path if path.exists() else Repository().show(f"refs/tags/{name}", path.as_posix())
    if source is None:
        raise UserError(
            f"neither {path} nor a tag {name} exists: `{_PROGRAM} tag` on main restores tags, "
            f"`{_PROGRAM} replay {name}` runs a version that has never been replayed."
        )
    run, version = predictions.collect_predictions(params.load()), predictions.read(source)
    if not predictions.same_votes(run, version):
        counts = f"{run['id'].nunique():,} votes and {name} on {version['id'].nunique():,}"
        raise UserError(
            f"this run was judged on {counts}, and they are not the same, so they don't compare. "
            f"`{_PROGRAM} replay {name}` judges {name} on the votes of params.yaml."
        )
    found = predictions.difference(run, version)
    print(f"this run, against {name}: {tables.compared(found)}")
    return int(found.verdict == "worse")


def leaderboard(catalog: Catalog, _: argparse.Namespace) -> None:
    """Log loss on held-out votes beside leaderboard scores

    To add a score, add a row to versions/leaderboard.csv:
      version   e.g. v17.0
      date      e.g. 2024-08-31
      regime    simulated, public-2024, private-2024 or rolling
      public    log loss on the public part
      private   log loss on the private part; empty where it is not known
      note      anything

    Example: python -m pairpref.versions leaderboard
    """
    frame = tables.leaderboard(VersionResults.load(catalog, features=False))
    if frame.empty:
        print(f"{LEADERBOARD} has no scores of replayed versions; `leaderboard -h` says how to add")
    else:
        _print(frame)


def _print(frame: pd.DataFrame) -> None:
    """Print a table; on a terminal without the last columns that don't fit."""
    width = shutil.get_terminal_size((1000, 24)).columns
    dropped: list[str] = []
    while (text := frame.to_string(index=False)).index("\n") > width and frame.shape[1] > 2:
        dropped.insert(0, frame.columns[-1])
        frame = frame.iloc[:, :-1]
    print(text)
    if dropped:
        print(f"(No room for: {', '.join(dropped)}. Widen the terminal.)")


def _parser() -> argparse.ArgumentParser:
    about = (__doc__ or "").split("\n\n")[1]
    parser = cli.parser("versions", about, "pairpref versions replay v17.1")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    added = {}
    for run in (list_versions, replay, impact, tag, table, check, leaderboard):
        text, name = inspect.getdoc(run) or "", run.__name__.removesuffix("_versions")
        form = argparse.RawDescriptionHelpFormatter
        help = text.splitlines()[0]
        added[name] = commands.add_parser(name, help=help, description=text, formatter_class=form)
        added[name].set_defaults(run=run)
    added["replay"].add_argument("names", nargs="*", metavar="ID", help="all if none is named")
    added["tag"].add_argument("--move", action="store_true", help="also move misplaced tags")
    style = added["table"].add_mutually_exclusive_group()
    style.add_argument("--md", action="store_true", help="as Markdown")
    style.add_argument("--csv", action="store_true", help="as plain numbers")
    added["check"].add_argument("--against", metavar="ID", help="the anchor if not given")
    return parser


def main(argv: list[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    with errors.command("versions", REFUSED):
        try:
            code = arguments.run(catalogs.load(), arguments)
        except stopping.Stopped as stop:
            name = "Ctrl-C" if stop.signum == signal.SIGINT else signal.Signals(stop.signum).name
            text = f"stopped by {name}; your files are unchanged, the same command resumes"
            print(f"versions: {text}", file=sys.stderr)
            code = 128 + stop.signum
    sys.exit(code or 0)


if __name__ == "__main__":
    main()
