"""What three made-up versions and two features measured, compared and in tables."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from made_up import drawn, predictions

from pairpref.errors import UserError
from pairpref.pairs import ORDERS, PROBABILITIES
from pairpref.paths import CATALOG, LEADERBOARD, LOG, MEASURED, PAIRS, SEEDS, TEST_SCORES
from pairpref.versions import __main__ as cli
from pairpref.versions import catalog as catalogs
from pairpref.versions import log, results, tables
from pairpref.versions import predictions as kept
from pairpref.versions.git import Repository
from pairpref.versions.results import VersionResults, predictions_path

TINY = """
anchor: v2.0
versions:
  v1.0:
    changes: {train.epochs: 3, augment.ab: false, train.patience: null}
    hypothesis: it learns
    published:
      log_loss: 1.09
      accuracy: 0.36
      f1_macro: 0.28
      epochs: [[1, 1.1, 1.2, 1.2, 0.3, 0.2], [2, 1.0, 1.1, 1.09, 0.36, 0.28]]
  v2.0:
    parent: v1.0
    changes: {augment.ab: true}
    hypothesis: it learns more
    conclusion: It does.
  v2.1:
    parent: v2.0
    milestone: M1
    changes: {train.patience: 1}
    hypothesis: it stops in time
milestones:
  M1: {expects: less}
  M2: {expects: even less, adds: more}
features:
  ab:
    name: swapping
    of: v2.0
    without: {augment.ab: false}
    expect: {sign: "-", because: it sees more}
    claimed: {log_loss: -0.04, f1_macro: 0.05}
  stopping:
    name: stopping
    of: v2.1
    setting: {train.epochs: 9}
    without: {train.patience: null}
    expect: {sign: "0", because: it may}
    conclusion: It did not.
unchanging: {resuming: tests/nowhere.py}
"""
NOISE = {"v1.0": 1.0, "v2.0": 0.5, "v2.1": 0.1}


def keep(root: Path, name: str, frame: pd.DataFrame) -> None:
    path = predictions_path(name, root)
    kept.write(frame, path)
    curve = "epoch,train_loss,validation_loss,log_loss,accuracy,f1_macro\n1,1.1,1.0,0.99,.5,.5\n"
    (path.parent / results.TRAINING).write_text(curve)
    table = results.read_measured(root / MEASURED)
    table.loc[name] = pd.Series(kept.measure(frame, root / "truth.csv"))
    (root / MEASURED).write_text(results.measured_csv(table, sorted(NOISE)))


@pytest.fixture(scope="module")
def made(tmp_path_factory, params_yaml) -> Path:
    """A repository in which three versions and two features are measured, for all tests."""
    folder = tmp_path_factory.mktemp("versions")
    (folder / CATALOG).parent.mkdir()
    (folder / CATALOG).write_text(TINY, encoding="utf-8")
    shutil.copy(params_yaml, folder)
    true = predictions(800, seeds=1)[["id"]]
    true[PROBABILITIES] = drawn(800, 0)[0]
    true.to_csv(folder / "truth.csv", index=False)
    for number, (name, noise) in enumerate(NOISE.items()):
        keep(folder, name, predictions(800, noise=noise, seed=number))
    for side, noise in (("with", 0.2), ("without", 0.9)):
        path = folder / results.FEATURES / f"stopping-{side}.parquet"
        kept.write(predictions(800, noise=noise, seed=9), path)
    return folder


@pytest.fixture(scope="module")
def whole(made) -> VersionResults:
    """All that is measured in it but the features."""
    return VersionResults.load(catalogs.load(made / CATALOG), root=made, features=False)


@pytest.fixture
def root(made, tmp_path, monkeypatch) -> Path:
    """A copy of it, to work in and to change."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(run: pd.DataFrame | None = None, features: bool = False) -> VersionResults:
    return VersionResults.load(catalogs.load(), run, features=features)


def test_every_version_is_compared_with_anchor_and_parent(whole):
    first, anchor, milestone = whole.rows
    assert [row.name for row in whole.rows] == ["v1.0", "v2.0", "v2.1"]
    assert first.to_anchor.verdict == "worse"
    assert first.to_parent.verdict == "better"  # than the class shares
    assert anchor.to_anchor is None and anchor.to_parent.verdict == "better"
    assert milestone.to_anchor.verdict == milestone.to_parent.verdict == "better"
    captured = [row.measured["information_captured"] for row in (anchor, milestone)]
    assert captured[0] < 0.9 < captured[1]


def test_a_run_is_compared_with_the_anchor_on_the_same_votes(root):
    found = load(predictions(800, seeds=1, noise=3.0, seed=77))
    assert found.now.verdict == "worse" and found.now.seeds == 1 and found.elsewhere == 0


def test_versions_of_other_votes_count_as_not_replayed(root):
    found = load(predictions(801, seeds=1), features=True)
    assert found.elsewhere == 3 and not found.replayed and not found.effects and found.now is None


def test_nothing_replayed(root):
    for name in NOISE:
        predictions_path(name, root).unlink()
    found = load(features=True)
    assert not found.replayed and not found.effects
    assert set(tables.summary(found)["than v2.0"]) == {"not replayed"}
    assert tables.trend(found, "log_loss")["series"].tolist() == ["published"]


def test_a_side_that_is_a_version_is_not_run_again(root):
    found = catalogs.load()
    paths = [
        results.side_path(found, changes).as_posix()
        for key in found.features
        for changes in found.sides(key)
    ]
    assert paths == [
        "versions/v2.0/predictions.parquet",
        "versions/v1.0/predictions.parquet",
        "versions/features/stopping-with.parquet",
        "versions/features/stopping-without.parquet",
    ]
    with pytest.raises(ValueError, match="no version and no feature"):
        results.side_path(found, {"train.epochs": 77})


def test_features_have_interval_expectation_and_claim(root):
    found = load(features=True)
    swapping, stopping = found.effects
    assert swapping.log_loss.verdict == stopping.log_loss.verdict == "better"
    change = swapping.with_ - swapping.without
    assert change == pytest.approx(swapping.log_loss.difference) and swapping.f1_macro[0] > 0
    table = tables.effects(found).set_index("feature")
    assert table["expectation"].to_dict() == {"swapping": "confirmed", "stopping": "refuted"}
    assert table["claimed"].to_dict() == {"swapping": "-0.04", "stopping": "·"}
    assert table["macro F1, claimed"].to_dict() == {"swapping": "+0.05", "stopping": "·"}


def test_the_summary_holds_what_was_measured_and_what_was_published(whole):
    measured = whole.rows[0].measured
    first, anchor, milestone = tables.summary(whole).to_dict("records")
    assert first["log loss"] == f"{measured['log_loss']:.4f} ± {measured['log_loss_std']:.4f}"
    assert first["published"] == "1.09 / 0.36 / 0.28" and first["than v2.0"] == "worse"
    assert anchor["than v2.0"] == "the anchor" and milestone["than v2.0"] == "better"


def test_logs_have_measured_and_published_epochs(whole):
    logs = tables.logs(whole)
    epochs = [("v1.0", "1"), ("v1.0", "2"), ("v2.0", "1"), ("v2.1", "1")]
    assert list(zip(logs["version"], logs["epoch"], strict=True)) == epochs
    assert logs["log loss"].tolist() == ["0.9900", "·", "0.9900", "0.9900"]
    assert logs["log loss, published"].tolist() == ["1.2000", "1.0900", "·", "·"]


def test_milestones_have_a_verdict(whole):
    done, to_come = tables.milestones(whole).to_dict("records")
    assert done["version"] == "v2.1" and done["verdict"] == "better"
    assert to_come["verdict"] == "no version yet"


def test_milestones_are_also_judged_on_long_pairs(made):
    def judged(long: pd.Series) -> VersionResults:
        return VersionResults.load(
            catalogs.load(made / CATALOG), root=made, features=False, long=long
        )

    every = kept.read(predictions_path("v2.0", made))["id"].drop_duplicates()
    _, anchor, all_long = judged(every).rows
    assert all_long.on_long == all_long.to_anchor and anchor.on_long is None
    assert judged(every.iloc[:50]).rows[2].on_long.votes == 50
    done, to_come = tables.milestones(judged(every)).to_dict("records")
    assert done["on long pairs"].startswith(done["log loss"]) and to_come["on long pairs"] == "·"


def test_the_trend_has_measured_and_published_points(whole):
    points = tables.trend(whole, "log_loss")
    assert list(points["version"]) == ["v1.0", "v1.0", "v2.0", "v2.1"]
    assert list(points["series"]) == ["measured", "published", "measured", "measured"]
    assert points["low"].isna().tolist() == [False, True, False, False]


def test_one_seed_has_no_spread(root):
    keep(root, "v2.0", predictions(800, seeds=1, noise=0.5, seed=1))
    found = load()
    alone = next(row for row in found.rows if row.name == "v2.0")
    text = tables.spread(alone, "log_loss")
    assert re.fullmatch(r"[01]\.\d{4}", text)
    assert f"log loss {text}, " in log.commit_message(alone)
    trend = tables.trend(found, "log_loss").query("series == 'measured'").set_index("version")
    assert trend["high"].isna().to_dict() == {"v1.0": False, "v2.0": True, "v2.1": False}


def score(*rows: str) -> None:
    LEADERBOARD.write_text("\n".join([",".join(results.SCORES), *rows]) + "\n")


def test_the_gap_between_holdout_and_leaderboard(root):
    holdout = {
        name: kept.final_losses(kept.read(predictions_path(name)))[0].mean() for name in NOISE
    }
    gaps = {"v1.0": 0.01, "v2.0": 0.02, "v2.1": 0.9}
    score(
        *(f"{name},2026-01-01,simulated,0.5,{holdout[name] + gap}," for name, gap in gaps.items()),
        "v2.1,2026-01-02,rolling,0.7,,by hand",
        "v9.9,2026-01-02,rolling,0.7,,unknown",
    )
    found = load()
    assert [round(gap.gap, 4) for gap in found.gaps[:3]] == list(gaps.values())
    assert [gap.grows for gap in found.gaps] == [False, False, True, False]
    # The first in its regime, without a private score.
    assert found.gaps[3].gap == pytest.approx(0.7 - holdout["v2.1"])
    assert tables.leaderboard(found)["warning"].tolist() == ["", "", "grows", ""]


def test_the_noise_of_a_leaderboard_is_that_of_its_votes_and_prompts(root):
    regimes = ("simulated", "rolling")
    score(*(f"{name},2026-01-01,{r},,0.8," for r in regimes for name in ("v1.0", "v2.0")))

    def noise() -> list[float]:
        return [gap.noise for gap in load().gaps[1::2]]

    simulated, elsewhere = noise()
    assert simulated == elsewhere
    TEST_SCORES.parent.mkdir()
    TEST_SCORES.write_text('{"n_public": 10, "n_private": 200}')
    assert noise() == [pytest.approx(simulated * (5 / 2) ** 0.5), elsewhere]
    # Every vote four times, as votes on the same prompt, adds no information.
    for name in NOISE:
        frame = kept.read(predictions_path(name))
        often = [frame.assign(id=frame["id"] + f"-{k}") for k in range(4)]
        frame = pd.concat(often, ignore_index=True).sort_values("seed", kind="stable")
        kept.write(frame, predictions_path(name))
    assert noise()[1] == pytest.approx(elsewhere, rel=0.01)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("v1.0,2026-01-01,kaggle,1.0,,", "line 2: regime is 'kaggle'; expected simulated"),
        ("v1.0,2026-01-01,rolling,good,,", "'good'"),
        ("v1.0,2026-01-01,rolling,1.0,,note,more,columns", "leaderboard.csv"),
    ],
)
def test_a_faulty_leaderboard_is_refused(root, row, said):
    score(row)
    with pytest.raises(UserError, match=re.escape(said)):
        load()


def test_a_row_without_scores_has_no_gap(root):
    score("v1.0,2026-01-01,rolling")
    assert load().gaps == []


@pytest.mark.parametrize("path", [MEASURED, predictions_path("v2.0")])
def test_damaged_files_are_refused(root, path, capsys):
    (root / path).write_bytes(b"PAR1")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["table"])
    assert stopped.value.code == 2 and "damaged" in capsys.readouterr().err


def test_the_log_has_measurements_and_conclusions(root):
    Repository(root).git("init", "--quiet", "--initial-branch=main")
    Repository(root).commit("v1.0: better\n\nVersion: v1.0\n", "params.yaml")
    found = catalogs.load()
    predictions_path("v2.0", root).unlink()
    log.write(found, dates={"features": "2026-01-03"})
    text = LOG.read_text(encoding="utf-8")
    date = Repository(root).git("log", "-1", "--format=%cd", "--date=format-local:%Y-%m-%d")
    first, anchor, milestone, *_ = text.split("\n### ")[1:]
    assert first.startswith(f"v1.0, {date}\n\n- Hypothesis: it learns\n") and "Measured" in first
    assert anchor.startswith("v2.0, date unknown\n") and "Not measured with the current" in anchor
    assert anchor.endswith("\n\n**Conclusion.** It does.\n")
    assert milestone.startswith("v2.1, ") and "Conclusion" not in milestone
    assert "### stopping (`stopping`), 2026-01-03\n" in text and "### swapping" not in text
    log.write(found, dates={"features": "2026-01-03"})
    assert LOG.read_text(encoding="utf-8") == text


def test_the_commit_message_ends_with_its_trailer(whole):
    first, anchor, _ = whole.rows
    assert log.commit_message(first).startswith(
        "v1.0: better than the class shares\n\n- Hypothesis: it learns\n"
    )
    message = log.commit_message(anchor)
    assert message.startswith("v2.0: better than v1.0\n") and message.endswith(
        "\n\nVersion: v2.0\n"
    )


def run_here(root: Path, small_params, monkeypatch, frame: pd.DataFrame) -> None:
    SEEDS.parent.mkdir(parents=True)
    PAIRS.parent.mkdir(parents=True)
    of_order = dict(zip(PROBABILITIES, ORDERS[0], strict=True))
    frame.drop(columns="group").rename(columns=of_order).to_parquet(SEEDS)
    frame[["id", "group"]].drop_duplicates("id").to_parquet(PAIRS)
    monkeypatch.setattr(cli.params, "load", lambda: small_params(oof__enabled=False))


def ended(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        cli.main(list(arguments))
    return stop.value.code


@pytest.mark.parametrize(("noise", "code", "verdict"), [(3.0, 1, "worse"), (0.05, 0, "better")])
def test_check_is_a_gate(root, small_params, monkeypatch, capsys, noise, code, verdict):
    run_here(root, small_params, monkeypatch, predictions(800, noise=noise, seed=70))
    assert ended("check") == code
    assert f"this run, against v2.0: {verdict}" in capsys.readouterr().out


def test_check_refuses_other_votes(root, small_params, monkeypatch, capsys):
    run_here(root, small_params, monkeypatch, predictions(700))
    assert ended("check") == 2
    assert "judged on 700 votes and v2.0 on 800" in capsys.readouterr().err


def test_check_refuses_without_an_anchor(root, capsys):
    predictions_path("v2.0").unlink()
    assert ended("check") == 2 and "nor a tag v2.0 exists" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["v99", ""])
def test_check_names_the_versions_there_are(root, capsys, name):
    assert ended("check", "--against", name) == 2
    unknown = name or "''"
    line = f"versions: unknown version {unknown}; the catalog has v1.0, v2.0, v2.1.\n"
    assert capsys.readouterr().err == line


def test_versions_are_listed(root, capsys):
    assert ended("list") == 0
    listed = capsys.readouterr().out
    assert (
        "v2.1 from v2.0, milestone M1\n" in listed and "params changed: augment.ab=true" in listed
    )
    assert "conclusion: It does." in listed and "13 of the 22" in listed


@pytest.mark.parametrize(
    ("arguments", "begins"),
    [
        (["table"], "version        log loss minus v2.0"),
        (["table", "--md"], "| version   | log loss "),
        (["leaderboard"], "versions/leaderboard.csv has no scores"),
    ],
)
def test_what_is_printed(root, capsys, arguments, begins):
    assert ended(*arguments) == 0
    assert capsys.readouterr().out.startswith(begins)


def test_a_table_fits_the_terminal(root, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "60")
    assert ended("table") == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 60


@pytest.mark.parametrize("command", "list replay impact tag table check leaderboard".split())
def test_every_command_has_help_with_an_example(command, capsys):
    assert ended(command, "--help") == 0
    assert f"Example: python -m pairpref.versions {command}" in capsys.readouterr().out


def test_an_unknown_version_is_refused(root, capsys):
    assert ended("replay", "v3.0") == 2
    assert "unknown version v3.0; the catalog has v1.0, v2.0, v2.1" in capsys.readouterr().err
