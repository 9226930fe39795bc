"""python -m pairpref.versions list | replay [ID…] | impact | tag | table | check | leaderboard

What each version is, what it measured, and how to run it again.
"""

import argparse
import shutil
import signal
import sys
import textwrap
from collections.abc import Callable

import pandas as pd

from pairpref import errors, params, stopping
from pairpref.errors import UserError
from pairpref.monitor import Log
from pairpref.paths import LEADERBOARD
from pairpref.versions import catalog as catalogs
from pairpref.versions import predictions, tables
from pairpref.versions.catalog import Catalog, natural, spelled
from pairpref.versions.git import Repository
from pairpref.versions.results import REGIMES, SCORES, VersionResults, predictions_path

REFUSED = 2
_PROGRAM = "python -m pairpref.versions"
_UNDOCUMENTED = 13


def list_versions(catalog: Catalog, _: argparse.Namespace) -> None:
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
    print(f"\nThe other {_UNDOCUMENTED} of the 22 versions are not documented.")


def replay(catalog: Catalog, arguments: argparse.Namespace) -> None:
    from pairpref.versions.replay import session

    if unknown := [name for name in arguments.names if name not in catalog.versions]:
        known = ", ".join(catalog.ordered())
        raise UserError(f"unknown version {', '.join(unknown)}; the catalog has {known}.")
    log = Log("replay")
    with session(catalog, log) as running:
        running.versions(arguments.names or list(catalog.versions))
    log.end()


def impact(catalog: Catalog, _: argparse.Namespace) -> None:
    from pairpref.versions.replay import session

    log = Log("impact")
    with session(catalog, log) as running:
        running.impact()
    log.end()


def tag(catalog: Catalog, arguments: argparse.Namespace) -> None:
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
    results = VersionResults.load(catalog, features=False)
    if arguments.form == "csv":
        frame = tables.numbers(results)
        frame.to_csv(sys.stdout, index=False, float_format="%.6f", lineterminator="\n")
    elif arguments.form == "md":
        print(tables.summary(results).to_markdown(index=False, disable_numparse=True))
    else:
        _print(tables.summary(results).drop(columns="before calibration"))


def check(catalog: Catalog, arguments: argparse.Namespace) -> int:
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
    frame = tables.leaderboard(VersionResults.load(catalog, features=False))
    if frame.empty:
        print(
            f"no scores of replayed versions in {LEADERBOARD}; add a row ({_PROGRAM} -h says how)"
        )
    else:
        _print(frame)


def _print(frame: pd.DataFrame) -> None:
    """Print a table; on a terminal without the last columns that don't fit."""
    width, dropped = shutil.get_terminal_size((1000, 24)).columns, []
    while (text := frame.to_string(index=False)).index("\n") > width and frame.shape[1] > 2:
        dropped.insert(0, frame.columns[-1])
        frame = frame.iloc[:, :-1]
    print(text)
    if dropped:
        print(f"(No room for: {', '.join(dropped)}. Widen the terminal.)")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=_PROGRAM, description=__doc__.split("\n\n")[1])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        run: Callable[[Catalog, argparse.Namespace], int | None],
        name: str,
        text: str,
        example: str = "",
        more: str = "",
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}. {more}",
            epilog=f"example: {_PROGRAM} {example or name}",
        )
        added.set_defaults(run=run)
        return added

    command(list_versions, "list", "what each version is, changes and should show")
    command(
        replay,
        "replay",
        "run versions again: params, pipeline, commit, tag",
        "replay v17.0 v18.0",
        "Up-to-date versions are skipped. Ctrl-C is safe: the same command resumes.",
    ).add_argument("names", nargs="*", metavar="ID", help="e.g. v17.0; all if none is named")
    command(
        impact,
        "impact",
        "run the pipeline with and without each feature, all else equal",
        more="The versions that features start from must be replayed first.",
    )
    command(tag, "tag", "restore the versions' tags from their commits").add_argument(
        "--move", action="store_true", help="also move tags that are on older commits"
    )
    form = command(
        table, "table", "all versions: measured, against the anchor, and published", "table --md"
    ).add_mutually_exclusive_group()
    form.add_argument("--md", action="store_const", dest="form", const="md", help="as Markdown")
    form.add_argument("--csv", action="store_const", dest="form", const="csv", help="as numbers")
    command(
        check,
        "check",
        "whether the current run is worse than a version, beyond chance",
        "check --against v5.0",
        "Exits with 1 if so, with 2 if they don't compare, otherwise with 0.",
    ).add_argument("--against", metavar="ID", help="the version; the anchor if not given")
    command(
        leaderboard,
        "leaderboard",
        "held-out log loss beside leaderboard scores",
        more=f"To add a score, add a row to {LEADERBOARD}: {', '.join(SCORES)}. The regime is one "
        f"of {', '.join(REGIMES)}; scores are log losses; private may be empty.",
    )
    arguments = parser.parse_args(argv)
    with errors.command("versions", REFUSED):
        try:
            code = arguments.run(catalogs.load(), arguments)
        except stopping.Stopped as stop:
            name = "Ctrl-C" if stop.signum == signal.SIGINT else signal.Signals(stop.signum).name
            print(
                f"versions: stopped by {name}; your files are unchanged, the same command resumes",
                file=sys.stderr,
            )
            code = 128 + stop.signum
    sys.exit(code or 0)


if __name__ == "__main__":
    main()
