"""python -m pairpref.versions list | replay [ID…] | impact | tag | table | check | leaderboard

What each version is, what it measured, and how to run it again.
"""

import argparse
import inspect
import shutil
import sys
import textwrap

from pairpref import cli, errors, params
from pairpref.errors import UserError
from pairpref.monitor import Log
from pairpref.paths import LEADERBOARD
from pairpref.stopping import Stopped
from pairpref.versions import catalog as catalogs
from pairpref.versions import predictions, tables
from pairpref.versions.catalog import Catalog
from pairpref.versions.git import Repository
from pairpref.versions.results import VersionResults, predictions_path

REFUSED = 2


def list_versions(catalog: Catalog, _: argparse.Namespace) -> None:
    """What each version is, changes, should show and did show

    Example: python -m pairpref.versions list
    """
    results = VersionResults.load(catalog, features=False)
    for row, about in zip(results.rows, tables.changes(results).to_dict("records"), strict=True):
        milestone = f", milestone {row.version.milestone}" if row.version.milestone else ""
        print(f"{about.pop('version')} from {about.pop('parent')}{milestone}")
        about["measured"] = f"log loss {tables.spread(row, 'log_loss_final')}"
        about["conclusion"] = row.version.conclusion or tables.NONE
        for title, text in about.items():
            print(textwrap.fill(f"    {title}: {text}", 100, subsequent_indent=" " * 8))
    print("\nThe other 13 of the 22 versions are not documented.")


def replay(catalog: Catalog, arguments: argparse.Namespace) -> None:
    """Run versions again: params, pipeline, commit, tag

    Up-to-date versions are skipped. Ctrl-C is safe: the same command resumes.

    Example: python -m pairpref.versions replay v17.0 v18.0
    """
    from pairpref.versions.replay import Replay

    _refuse_unknown(catalog, arguments.names)
    log = Log("replay")
    Replay(catalog, log).versions(arguments.names or list(catalog.versions))
    log.end()


def impact(catalog: Catalog, _: argparse.Namespace) -> None:
    """Run the pipeline with and without each feature, all else equal

    The versions that features start from must be replayed first.

    Example: python -m pairpref.versions impact
    """
    from pairpref.versions.replay import Replay

    log = Log("impact")
    Replay(catalog, log).impact()
    log.end()


def tag(catalog: Catalog, arguments: argparse.Namespace) -> None:
    """Restore the versions' tags from their commits

    Example: python -m pairpref.versions tag
    """
    repository = Repository()
    found = {n: commit for n, commit in repository.versions().items() if n in catalog.versions}
    lines = repository.tag(found, move=found if arguments.move else ())
    print(*lines or ["nothing to do: every version in this history has its tag"], sep="\n")
    if repository.git("rev-parse", "--is-shallow-repository") == "true":
        print("This clone is shallow: `git fetch --unshallow` brings the commits that it lacks.")


def table(catalog: Catalog, arguments: argparse.Namespace) -> None:
    """All versions: measured, against the anchor, and published

    Example: python -m pairpref.versions table --md
    """
    summary = tables.summary(VersionResults.load(catalog, features=False))
    if arguments.md:
        print(summary.to_markdown(index=False, disable_numparse=True))
    else:
        width = shutil.get_terminal_size((1000, 24)).columns
        print(summary.drop(columns="before calibration").to_string(index=False, line_width=width))


def check(catalog: Catalog, arguments: argparse.Namespace) -> int:
    """Whether the current run is worse than a version, beyond chance

    Exits with 1 if it is, with 2 if they don't compare, otherwise with 0.

    Example: python -m pairpref.versions check --against v5.0
    """
    name = catalog.anchor if arguments.against is None else arguments.against
    path = predictions_path(name)
    # A commit older than the version's lacks its predictions, but its tag has them.
    source = path if path.exists() else Repository().show(f"refs/tags/{name}", path.as_posix())
    if source is None:
        _refuse_unknown(catalog, [name])
        raise UserError(
            f"neither {path} nor a tag {name} exists: `pairpref versions tag` on main restores "
            f"tags, `pairpref versions replay {name}` runs a version that was never replayed."
        )
    run, version = predictions.collect_predictions(params.load()), predictions.read(source)
    if not predictions.same_votes(run, version):
        raise UserError(
            f"this run was judged on {run['id'].nunique():,} votes and {name} on "
            f"{version['id'].nunique():,}, and they are not the same, so they don't compare. "
            f"`pairpref versions replay {name}` judges {name} on the votes of params.yaml."
        )
    found = predictions.difference(run, version)
    print(f"this run, against {name}: {found}")
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
    none = f"{LEADERBOARD} has no scores of replayed versions; `leaderboard -h` says how to add"
    print(none if frame.empty else frame.to_string(index=False))


def _refuse_unknown(catalog: Catalog, names: list[str]) -> None:
    if unknown := [name or "''" for name in names if name not in catalog.versions]:
        known = ", ".join(catalog.ordered())
        raise UserError(f"unknown version {', '.join(unknown)}; the catalog has {known}.")


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
    added["table"].add_argument("--md", action="store_true", help="as Markdown")
    added["check"].add_argument("--against", metavar="ID", help="the anchor if not given")
    return parser


def main(argv: list[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    with errors.command("versions", REFUSED):
        try:
            code = arguments.run(catalogs.load(), arguments)
        except Stopped as stop:
            text = f"stopped by {stop}; your files are unchanged, the same command resumes"
            print(f"versions: {text}", file=sys.stderr)
            code = 128 + stop.signum
    sys.exit(code or 0)


if __name__ == "__main__":
    main()
