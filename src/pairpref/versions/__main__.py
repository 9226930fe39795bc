"""python -m pairpref.versions list | replay [ID…] | impact | tag | table | check | leaderboard

The project's versions: what each is (versions.yaml), run again, tagged, compared with each other and with the run at hand.
"""

import argparse
import signal
import sys
from pathlib import Path

import pandas as pd

from pairpref import cli, errors, params, stopping
from pairpref.errors import UserError
from pairpref.evaluation.comparison import Comparison
from pairpref.files import write_text
from pairpref.monitor import Log
from pairpref.versions import catalog as catalogs
from pairpref.versions import evidence, standing, tables
from pairpref.versions import tables as versions
from pairpref.versions.catalog import Catalog, spelled
from pairpref.versions.history import Repository

REFUSED = 2


def show(catalog: Catalog) -> None:
    """What each version is, in natural order.

    Raises:
        UserError: a version can't be expressed by today's params.
    """
    settings = params.load().model_dump(mode="json")
    for name in catalog.versions:
        catalogs.changed(settings, catalog.changes(name), name)
    for row in standing.stand(catalog, features=False).rows:
        version = row.version
        milestone = f", milestone {version.milestone}" if version.milestone else ""
        print(f"{row.name}{f' from {version.parent}' if version.parent else ''}{milestone}")
        modules = [*version.added, *(f"without {module}" for module in version.removed)]
        lines = {
            "what": ", ".join(modules),
            "params": spelled(version.changes),
            "to show": version.hypothesis,
        }
        lines |= {f"assumed {what}": why for what, why in version.assumed.items()}
        if row.measured:
            lines["measured"] = f"log loss {versions.spread(row, 'log_loss_final')}"
        for name, text in lines.items():
            print(f"    {name}: {text}")
    print(f"\nNothing is documented of the other {versions.UNDOCUMENTED} of the 22 versions.")


def replay(catalog: Catalog, names: list[str]) -> None:
    """Run versions again, all of them where none is named."""
    from pairpref.versions.replay import Replay

    if unknown := [name for name in names if name not in catalog.versions]:
        raise UserError(
            f"{', '.join(unknown)}: not in versions.yaml, which has {', '.join(catalog.ordered())}."
        )
    log = Log("replay")
    with Replay(catalog, log) as session:
        session.versions(names or list(catalog.versions))
    log.end()


def impact(catalog: Catalog) -> None:
    """Run both sides of every feature."""
    from pairpref.versions.replay import Replay

    log = Log("impact")
    with Replay(catalog, log) as session:
        session.impact()
    log.end()


def tag(catalog: Catalog, move: bool) -> None:
    """Put missing tags back."""
    repository = Repository()
    made, elsewhere = repository.tag(
        {
            name: commit
            for name, commit in repository.versions().items()
            if name in catalog.versions
        },
        move,
    )
    if made:
        print(f"tagged {', '.join(catalogs.natural(made))}")
    if left := set(elsewhere) - set(made):
        print(
            f"{', '.join(catalogs.natural(left))}: the tag stands on another commit than the newest of that version in this history, "
            "and was left there; `python -m pairpref.versions tag --move` moves it"
        )
    if not made and not elsewhere:
        print("nothing to do: every version in this history has its tag")
    if repository.is_shallow():
        print(
            "This clone is shallow: it holds few of the commits that versions are found by. `git fetch --unshallow` brings the rest."
        )


def table(catalog: Catalog, form: str) -> None:
    """Print the version table."""
    stood = standing.stand(catalog, features=False)
    if form == "csv":
        versions.numbers(stood).to_csv(
            sys.stdout, index=False, float_format="%.6f", lineterminator="\n"
        )
    elif form == "md":
        print(tables.markdown(versions.summary(stood)), end="")
    else:
        print(tables.plain(versions.summary(stood)))


def check(catalog: Catalog, name: str) -> Comparison:
    """The run in the working tree against a version, on the same votes.

    Raises:
        UserError: one of them is not there, or they were judged on different votes.
    """
    path = standing.predictions_of(name)
    # A commit older than the version's has not got its predictions; its tag has.
    kept = path if path.exists() else Repository().show(f"refs/tags/{name}", path.as_posix())
    if kept is None:
        raise UserError(
            f"{path} is not there, and no tag {name}: `python -m pairpref.versions tag` on main puts tags back, "
            f"`python -m pairpref.versions replay {name}` runs a version that has never been replayed."
        )
    run, version = evidence.gather(params.load()), evidence.read(kept)
    if not evidence.same_votes(run, version):
        counts = f"{run['id'].nunique():,} votes and {name} on {version['id'].nunique():,}"
        raise UserError(
            f"this run was judged on {counts}, and they are not the same ones, so the figures don't compare. "
            f"`python -m pairpref.versions replay {name}` judges {name} on the votes of params.yaml."
        )
    return evidence.log_loss(run, version)


def leaderboard(catalog: Catalog, listing: Path, regime: str) -> None:
    """Add the scores of a listing to leaderboard.csv; a score that is there already is not added twice."""
    try:
        text = sys.stdin.read() if str(listing) == "-" else listing.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(
            f"{listing} is no text; expected what `kaggle competitions submissions -v` prints."
        ) from None
    new, old = (
        standing.from_kaggle(text, regime, list(catalog.versions)),
        standing.read_leaderboard(standing.LEADERBOARD),
    )
    both = pd.concat([old, new], ignore_index=True) if len(old) else new
    merged = both.drop_duplicates(["version", "date", "regime", "public", "private"])
    write_text(standing.LEADERBOARD, standing.leaderboard_csv(merged))
    print(
        f"{len(merged) - len(old)} scores added to {standing.LEADERBOARD}, of {len(new)} that name a version"
    )


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(
        "versions", (__doc__ or "").split("\n\n")[1], "pairpref versions replay v17.1"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="what each version is")
    command = commands.add_parser(
        "replay",
        help="run versions again: params, pipeline, commit, tag; what is up to date is left alone",
    )
    command.add_argument(
        "names", nargs="*", metavar="ID", help="e.g. v17.0; all where none is named"
    )
    commands.add_parser(
        "impact", help="run the pipeline with and without each feature, all else equal"
    )
    command = commands.add_parser(
        "tag", help="put tags on the versions' commits where they are missing"
    )
    command.add_argument(
        "--move", action="store_true", help="also move tags that stand on older commits"
    )
    command = commands.add_parser(
        "table", help="all versions: measured, published, against the anchor"
    )
    form = command.add_mutually_exclusive_group()
    form.add_argument(
        "--md", action="store_const", dest="form", const="md", default="text", help="as Markdown"
    )
    form.add_argument(
        "--csv", action="store_const", dest="form", const="csv", help="as plain numbers"
    )
    command = commands.add_parser(
        "check",
        help="is the run at hand worse than the anchor? Exits with 1 if so, 2 if they don't compare",
    )
    command.add_argument("--against", metavar="ID", help="another version than the anchor, v17.0")
    command = commands.add_parser(
        "leaderboard",
        help="add scores to leaderboard.csv from what `kaggle competitions submissions -v` lists",
    )
    command.add_argument(
        "listing",
        type=Path,
        help="the listing as CSV; - reads it from a pipe. Descriptions name the version",
    )
    command.add_argument(
        "--regime",
        required=True,
        choices=standing.REGIMES,
        help="scores of different regimes don't compare",
    )
    asked = parser.parse_args(argv)
    with errors.command("versions", REFUSED):
        try:
            _do(asked)
        except stopping.Stopped as stop:
            name = "Ctrl-C" if stop.signum == signal.SIGINT else signal.Signals(stop.signum).name
            print(
                f"versions: stopped by {name}; your files are as they were, and the same command goes on from here",
                file=sys.stderr,
            )
            sys.exit(128 + stop.signum)


def _do(asked: argparse.Namespace) -> None:
    catalog = catalogs.load()
    match asked.command:
        case "list":
            show(catalog)
        case "replay":
            replay(catalog, asked.names)
        case "impact":
            impact(catalog)
        case "tag":
            tag(catalog, asked.move)
        case "table":
            table(catalog, asked.form)
        case "leaderboard":
            leaderboard(catalog, asked.listing, asked.regime)
        case "check":
            name = asked.against or catalog.anchor
            found = check(catalog, name)
            print(f"this run, against {name}: {versions.said(found)}")
            sys.exit(found.verdict == "worse")


if __name__ == "__main__":
    main()
