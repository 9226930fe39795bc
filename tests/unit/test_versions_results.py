import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up import drawn, predictions

from pairpref.errors import UserError
from pairpref.pairs import ORDERS, PROBABILITIES
from pairpref.reporting import tables, versions
from pairpref.versions import __main__ as cli
from pairpref.versions import catalog as catalogs
from pairpref.versions import evidence, experiments, standing

CATALOG = """
anchor: v2.0
versions:
  v1.0:
    changes: {train.epochs: 3, augment.ab: false, train.patience: null}
    hypothesis: it learns
    published: {log_loss: 1.09, accuracy: 0.36, f1_macro: 0.28, epochs: [[1, 1.1, 1.2, 1.2, 0.3, 0.2], [2, 1.0, 1.1, 1.09, 0.36, 0.28]]}
  v2.0:
    parent: v1.0
    changes: {augment.ab: true}
    hypothesis: it learns more
  v2.1:
    parent: v2.0
    milestone: M1
    changes: {train.patience: 1}
    hypothesis: it stops in time
milestones:
  M1: {expects: less, log_loss: [-0.02, -0.02]}
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
unchanging: {resuming: tests/nowhere.py}
"""
NOISE = {"v1.0": 1.0, "v2.0": 0.5, "v2.1": 0.1}


def keep(root: Path, name: str, frame: pd.DataFrame) -> None:
    folder = root / "versions" / name
    folder.mkdir(parents=True, exist_ok=True)
    evidence.write(frame, folder / evidence.PREDICTIONS)
    curve = "epoch,train_loss,validation_loss,log_loss,accuracy,f1_macro\n1,1.1,1.0,0.99,.5,.5\n"
    (folder / "training.csv").write_text(curve)
    p, _ = drawn(frame["id"].nunique(), 0)
    measured = pd.DataFrame(
        [evidence.figures(frame, np.tile(p, (frame["seed"].nunique(), 1)))], index=[name]
    )
    table = pd.concat(
        [standing.read_figures(root / standing.FIGURES).drop(index=name, errors="ignore"), measured]
    )
    (root / standing.FIGURES).write_text(standing.to_csv(table, sorted(NOISE)))


@pytest.fixture
def root(tmp_path, monkeypatch, params_yaml) -> Path:
    """A repository in which three versions and two features are measured."""
    monkeypatch.chdir(tmp_path)
    Path("versions.yaml").write_text(CATALOG, encoding="utf-8")
    shutil.copy(params_yaml, "params.yaml")
    for number, (name, noise) in enumerate(NOISE.items()):
        keep(tmp_path, name, predictions(800, noise=noise, seed=number))
    (tmp_path / standing.FEATURES).mkdir()
    for side, noise in (("with", 0.2), ("without", 0.9)):
        evidence.write(
            predictions(800, noise=noise, seed=9),
            tmp_path / standing.FEATURES / f"stopping-{side}.parquet",
        )
    return tmp_path


def stood(run: pd.DataFrame | None = None) -> standing.Standing:
    return standing.stand(catalogs.load(), run)


def test_every_version_is_compared_with_anchor_and_parent(root):
    first, anchor, milestone = stood().rows
    assert [row.name for row in stood().rows] == ["v1.0", "v2.0", "v2.1"]
    assert (
        first.to_anchor.verdict == "worse" and first.to_parent.verdict == "better"
    )  # than the class shares
    assert anchor.to_anchor is None and anchor.to_parent.verdict == "better"
    assert milestone.to_anchor.verdict == milestone.to_parent.verdict == "better"
    assert (
        milestone.measured["information_captured"] > 0.9 > anchor.measured["information_captured"]
    )


def test_a_run_is_compared_with_the_anchor_on_the_same_votes(root):
    found = stood(predictions(800, seeds=1, noise=3.0, seed=77))
    assert found.now.verdict == "worse" and found.now.seeds == 1 and found.elsewhere == 0
    assert "It is worse than v2.0" in versions.now(
        found
    ) and "luck of training is not" in versions.now(found)


def test_versions_of_other_votes_are_not_shown(root):
    found = stood(predictions(801, seeds=1))
    assert found.elsewhere == 3 and not found.replayed and not found.effects and found.now is None
    assert (
        "3 versions were replayed on other votes" in versions.words(found)
        and versions.now(found) == ""
    )


def test_nothing_replayed(root):
    for name in NOISE:
        standing.predictions_of(name, root).unlink()
    found = stood()
    assert not found.replayed and "No version has been replayed" in versions.words(found)
    assert "not replayed" in tables.plain(versions.table(found))


def test_a_side_that_is_a_version_is_not_run_again(root):
    found = catalogs.load()
    paths = [
        standing.side_path(found, changes).as_posix()
        for key in found.features
        for changes in found.sides(key)
    ]
    assert paths == [
        "versions/v2.0/predictions.parquet",
        "versions/v1.0/predictions.parquet",
        "versions/features/stopping-with.parquet",
        "versions/features/stopping-without.parquet",
    ]
    assert standing.side_path(found, {"train.epochs": 77}) is None


def test_features_are_told_with_interval_expectation_and_claim(root):
    found = stood()
    assert [effect.log_loss.verdict for effect in found.effects] == ["better", "better"]
    text = tables.markdown(versions.effects(found))
    assert "| confirmed |" in text and "| refuted |" in text and "-0.04" in text and "+0.05" in text
    swapping = found.effects[0]
    assert (
        swapping.with_ - swapping.without == pytest.approx(swapping.log_loss.difference)
        and swapping.f1_macro[0] > 0
    )


def test_the_tables_hold_what_was_measured_and_what_was_published(root):
    found = stood()
    first, anchor, milestone = versions.table(found).rows
    assert (
        f"{found.rows[0].measured['log_loss']:.4f} ± {found.rows[0].measured['log_loss_std']:.4f}"
        in first
    )
    assert "1.09 / 0.36 / 0.28" in first and anchor[4] == "the anchor" and milestone[4] == "better"
    assert versions.numbers(found).set_index("version").loc["v1.0", "log_loss_published"] == 1.09
    logs = versions.logs(found).rows
    assert [row[:2] for row in logs] == [("v1.0", "1"), ("v1.0", "2"), ("v2.0", "1"), ("v2.1", "1")]
    assert logs[0][4:6] == ("0.9900", "1.2000") and logs[1][4:6] == ("·", "1.0900")
    done, to_come = versions.milestones(found).rows
    assert done[1] == "v2.1" and done[-1] == "better" and to_come[-1] == "no version yet"


def test_the_trend_has_measured_and_published_points(root):
    points = versions.trend(stood(), "log_loss")
    assert list(points["version"]) == ["v1.0", "v1.0", "v2.0", "v2.1"]
    assert list(points["series"]) == ["measured", "published", "measured", "measured"]
    assert points["low"].isna().tolist() == [False, True, False, False]
    assert set(versions.drawn(stood())) == {"versions-log-loss", "versions-f1", "versions-accuracy"}


def score(root: Path, *rows: str) -> None:
    (root / standing.LEADERBOARD).write_text(
        "\n".join(["version,date,regime,public,private,note", *rows]) + "\n"
    )


def test_the_gap_between_holdout_and_leaderboard(root):
    holdout = {
        name: standing._first_losses(evidence.read(standing.predictions_of(name)))[0].mean()
        for name in NOISE
    }
    rows = [
        f"{name},2026-01-01,simulated,0.5,{holdout[name] + gap},"
        for name, gap in (("v1.0", 0.01), ("v2.0", 0.02), ("v2.1", 0.9))
    ]
    score(
        root, *rows, "v2.1,2026-01-02,rolling,0.7,,by hand", "v9.9,2026-01-02,rolling,0.7,,unknown"
    )
    gaps = stood().gaps
    assert [round(gap.gap, 4) for gap in gaps[:3]] == [0.01, 0.02, 0.9] and [
        gap.grows for gap in gaps
    ] == [False, False, True, False]
    assert gaps[3].gap == pytest.approx(
        0.7 - holdout["v2.1"]
    )  # nothing before it in its regime, and no private score
    assert "grew beyond luck with v2.1" in versions.leaderboard_words(gaps)
    assert "grows" in tables.plain(versions.leaderboard(stood()))


def test_the_luck_of_a_leaderboard_is_that_of_its_votes_and_prompts(root):
    score(
        root,
        *(
            f"{name},2026-01-01,{regime},,0.8,"
            for regime in ("simulated", "rolling")
            for name in ("v1.0", "v2.0")
        ),
    )

    def noise() -> list[float]:
        return [gap.noise for gap in stood().gaps[1::2]]

    simulated, elsewhere = noise()
    assert simulated == elsewhere
    Path("metrics").mkdir()
    standing.TEST.write_text('{"n_public": 10, "n_private": 200}')
    assert noise() == [pytest.approx(simulated * (5 / 2) ** 0.5), elsewhere]
    assert "not known" in versions.leaderboard_words(stood().gaps)
    # Every vote four times, as votes on the same prompt: nothing more is known.
    for name in NOISE:
        frame = evidence.read(standing.predictions_of(name))
        often = [frame.assign(id=frame["id"] + f"-{k}") for k in range(4)]
        keep(root, name, pd.concat(often, ignore_index=True).sort_values("seed", kind="stable"))
    assert noise()[1] == pytest.approx(elsewhere, rel=0.01)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["v1.0,2026-01-01,kaggle,1.0,,"], "line 2: regime is 'kaggle'; expected simulated"),
        (["v1.0,2026-01-01,rolling,good,,"], "line 2: public is 'good'"),
        (["v1.0,2026-01-01,rolling"], "line 2: public"),
        (
            ["v1.0,2026-01-01,rolling,1.0,,", "v1.0,1.2.2026,rolling,1.0,,"],
            "line 3: date is '1.2.2026'; expected e.g. 2024-08-31",
        ),
    ],
)
def test_a_faulty_leaderboard_is_refused_in_words(root, rows, said):
    score(root, *rows)
    if "public" in said and "good" not in said:
        # A short line lacks scores: it counts as one without any.
        assert stood().gaps == []
        return
    with pytest.raises(UserError, match=re.escape(said)):
        stood()


def test_scores_from_kaggles_listing(root, capsys):
    listing = root / "listing.csv"
    listing.write_text(
        "fileName,date,description,status,publicScore,privateScore\n"
        "submission.csv,2026-02-01 10:00:00,v2.1 with more folds,complete,1.012,1.034\n"
        "v1.0_first.csv,2026-01-01 10:00:00,,complete,1.09,\n"
        "submission.csv,2026-01-01 10:00:00,something else,complete,1.07,\n"
        "submission.csv,2026-01-01 10:00:00,v2.0,error,,\n"
    )
    for expected in ("2 scores added", "0 scores added"):
        cli.main(["leaderboard", str(listing), "--regime", "rolling"])
        assert expected in capsys.readouterr().out
    table = standing.read_leaderboard(standing.LEADERBOARD)
    assert list(table["version"]) == ["v2.1", "v1.0"] and list(table["public"]) == [1.012, 1.09]


def test_a_listing_that_is_none(root, capsys):
    (root / "listing.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SystemExit) as stop:
        cli.main(["leaderboard", "listing.csv", "--regime", "rolling"])
    assert stop.value.code == 2 and "the listing lacks date" in capsys.readouterr().err


@pytest.mark.parametrize(
    "listing",
    [
        b"",
        b"\xff\xfe\x00",
        b"fileName,date,description,publicScore\na.csv,2026-01-01,v2.0,pending\n",
        b"fileName,date,description,publicScore\na.csv,yesterday,v2.0,1.0\n",
        b"fileName,date,description,publicScore\nv1.0.csv,2026-01-01,v2.0,1.0\n",
    ],
)
def test_a_listing_that_is_none_is_refused_in_a_line(root, listing, capsys):
    (root / "listing.csv").write_bytes(listing)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["leaderboard", "listing.csv", "--regime", "rolling"])
    assert (
        stopped.value.code == 2
        and "listing" in capsys.readouterr().err
        and not standing.LEADERBOARD.exists()
    )


@pytest.mark.parametrize("path", [standing.FIGURES, standing.predictions_of("v2.0")])
def test_damage_is_refused_in_a_line(root, path, capsys):
    """check says 1 only where a run is worse."""
    (root / path).write_bytes(b"PAR1")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["table"])
    assert stopped.value.code == 2 and "damaged" in capsys.readouterr().err


def test_conclusions_on_what_is_no_more_in_the_catalogue_stay(root):
    experiments.update(root, catalogs.load(), versions={"v1.0": "2026-01-01"})
    text = (root / experiments.LOG).read_text()
    (root / experiments.LOG).write_text(
        f"{text}\n## v0.9, 2025-12-31\n\n<!-- generated -->\n- old\n<!-- by hand -->\n\nIt was bad.\n"
    )
    experiments.update(root, catalogs.load())
    assert "- old\n<!-- by hand -->\n\nIt was bad." in (root / experiments.LOG).read_text()


def test_the_log_keeps_what_was_written_by_hand(root):
    found = catalogs.load()
    experiments.update(
        root, found, versions={"v1.0": "2026-01-01", "v2.0": "2026-01-02"}, features="2026-01-03"
    )
    text = (root / experiments.LOG).read_text()
    assert (
        "## v1.0, 2026-01-01" in text
        and "## v2.1, undated" in text
        and "## stopping: stopping, 2026-01-03" in text
    )
    assert text.index("## v2.0") < text.index("## v2.1") < text.index("## ab: swapping")
    experiments.update(root, found)
    assert (root / experiments.LOG).read_text() == text
    (root / experiments.LOG).write_text(
        text.replace("# Experiments\n", "# Our experiments\n").replace(
            "<!-- by hand -->\n\n## v2.0", "<!-- by hand -->\n\nMine.\n\n## v2.0"
        )
        + "\n## Of my own\n\nA note.\n"
    )
    keep(root, "v1.0", predictions(800, noise=1.0, seed=50))
    standing.predictions_of("v2.0", root).unlink()
    experiments.update(root, found, versions={"v1.0": "2027-01-01"})
    new = (root / experiments.LOG).read_text()
    assert new.startswith("# Our experiments\n") and new.endswith("## Of my own\n\nA note.\n")
    assert "## v1.0, 2027-01-01" in new and "\nMine.\n" in new and "## v2.0" not in new
    assert new.count("<!-- generated -->") == 3


def test_what_was_said_of_a_version_outlives_its_measurement(root):
    found = catalogs.load()
    experiments.update(root, found)
    path = root / experiments.LOG
    path.write_text(
        path.read_text().replace(
            "<!-- by hand -->\n\n## v2.0", "<!-- by hand -->\n\nMine.\n\n## v2.0"
        )
    )
    standing.predictions_of("v1.0", root).unlink()
    experiments.update(root, found)
    assert (
        "Not measured by the present code" in path.read_text() and "\nMine.\n" in path.read_text()
    )


def test_the_commit_message_ends_with_its_trailer(root):
    first, anchor, _ = stood().rows
    assert experiments.message(first).startswith(
        "v1.0: better than the class shares\n\n- Hypothesis: it learns\n"
    )
    assert experiments.message(anchor).startswith(
        "v2.0: better than v1.0\n"
    ) and experiments.message(anchor).endswith("\n\nVersion: v2.0\n")


def run_here(root: Path, small_params, monkeypatch, frame: pd.DataFrame) -> None:
    (root / "data/oof").mkdir(parents=True)
    (root / "data/clean").mkdir(parents=True)
    of_order = dict(zip(PROBABILITIES, ORDERS[0], strict=True))
    frame.drop(columns="group").rename(columns=of_order).to_parquet(root / evidence.SEEDS)
    frame[["id", "group"]].drop_duplicates("id").to_parquet(root / evidence.PAIRS)
    monkeypatch.setattr(cli.params, "load", lambda: small_params(oof__enabled=False))


@pytest.mark.parametrize(("noise", "code", "verdict"), [(3.0, 1, "worse"), (0.05, 0, "better")])
def test_check_is_a_gate(root, small_params, monkeypatch, capsys, noise, code, verdict):
    run_here(root, small_params, monkeypatch, predictions(800, noise=noise, seed=70))
    with pytest.raises(SystemExit) as stop:
        cli.main(["check"])
    assert (
        stop.value.code == code and f"this run, against v2.0: {verdict}" in capsys.readouterr().out
    )


def test_check_refuses_other_votes(root, small_params, monkeypatch, capsys):
    run_here(root, small_params, monkeypatch, predictions(700))
    with pytest.raises(SystemExit) as stop:
        cli.main(["check"])
    assert stop.value.code == 2 and "judged on 700 votes and v2.0 on 800" in capsys.readouterr().err


def test_check_refuses_without_an_anchor(root, capsys):
    standing.predictions_of("v2.0").unlink()
    with pytest.raises(SystemExit) as stop:
        cli.main(["check"])
    assert stop.value.code == 2 and "no tag v2.0" in capsys.readouterr().err


def test_what_is_printed(root, capsys):
    cli.main(["list"])
    listed = capsys.readouterr().out
    assert (
        "v2.1 from v2.0, milestone M1\n" in listed
        and "params: augment.ab=true" in listed
        and "13 of the 22" in listed
    )
    cli.main(["table", "--csv"])
    assert capsys.readouterr().out.startswith("version,parent,")
    cli.main(["table", "--md"])
    assert capsys.readouterr().out.startswith("| version | log loss |")


def test_versions_are_listed_whose_ever_the_votes_are(root, small_params, monkeypatch, capsys):
    """The arena's test file, truth and solution don't count for them."""
    monkeypatch.setattr(cli.params, "load", lambda: small_params(data__train="votes.csv"))
    cli.main(["list"])
    assert "v2.1 from v2.0" in capsys.readouterr().out


def test_a_version_that_cannot_be_run_is_not_listed(root, capsys):
    (root / "versions.yaml").write_text(
        CATALOG.replace("augment.ab: true", "augment.ab: perhaps"), encoding="utf-8"
    )
    with pytest.raises(SystemExit) as stop:
        cli.main(["list"])
    printed = capsys.readouterr()
    assert (
        stop.value.code == 2
        and "v2.0 (versions.yaml): augment.ab" in printed.err
        and printed.out == ""
    )


def test_one_seed_has_no_spread(root, capsys):
    keep(root, "v2.0", predictions(800, seeds=1, noise=0.5, seed=1))
    alone = next(row for row in stood().rows if row.name == "v2.0")
    text = versions.spread(alone, "log_loss")
    assert re.fullmatch(r"0\.\d{4}|1\.\d{4}", text) and f"log loss {text}, " in experiments.message(
        alone
    )
    trend = versions.trend(stood(), "log_loss").query("series == 'measured'").set_index("version")
    assert trend["high"].isna().to_dict() == {"v1.0": False, "v2.0": True, "v2.1": False}
    versions.drawn(stood())


def test_an_unknown_version_is_refused(root, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["replay", "v3.0"])
    assert (
        stop.value.code == 2
        and "v3.0: not in versions.yaml, which has v1.0, v2.0, v2.1" in capsys.readouterr().err
    )
