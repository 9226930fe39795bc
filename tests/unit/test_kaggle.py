"""A bundle for a Kaggle notebook: what is in it, and what `verify` refuses without loading it."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from pairpref import bundle as bundles
from pairpref.errors import UserError
from pairpref.kaggle import half, make, manifest, sample, wheels
from pairpref.kaggle.verify import verify
from pairpref.monitor import Log
from stages.calibrate import calibrate
from stages.clean import clean
from stages.oof import oof
from stages.simulate import simulate
from stages.tokenize import tokenize
from stages.train import train
from tests.damaged_bundles import DAMAGED, forged, listed_anew

ROOT = Path(__file__).parents[2]
TARGET = wheels.Target()


def silent(_: str) -> None:
    pass


def bundle_of(folder: Path, in_half: bool = False, say=silent) -> Path:
    make.make(folder, TARGET, {}, in_half, say)
    return folder


@pytest.fixture(autouse=True, scope="module")
def no_wheels() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wheels, "gather", lambda *_: [])
        yield


@pytest.fixture(scope="module")
def run(small_params, tmp_path_factory) -> Path:
    """The root of a repository with a finished run, without git and without DVC."""
    settings, folder = small_params(), tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("params.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")))
        for stage in (simulate, clean, tokenize, train, oof, calibrate):
            stage(settings, Log("test"))
    return folder


@pytest.fixture(autouse=True)
def there(run, monkeypatch) -> None:
    monkeypatch.chdir(run)


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(run)
        return bundle_of(tmp_path_factory.mktemp("made") / "bundle")


@pytest.fixture
def bundle(whole, tmp_path) -> Path:
    """A copy, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "bundle"))


@pytest.fixture
def unloaded(monkeypatch) -> None:
    """Fail where anything of a bundle is loaded."""
    monkeypatch.setattr(sample, "predicted", lambda *_: pytest.fail("something was loaded"))


class TestMake:
    def test_it_has_the_run_and_how_to_use_it(self, run, whole):
        files, others = manifest.found(whole)
        ours = {name for name in files if not name.startswith("models/")}
        assert not others and ours == {
            *("manifest.json", "params.yaml", "provenance.json", "sample.json", "predict.ipynb")
        }
        listed = manifest.read(whole)["files"]
        assert set(listed) == set(files) - {"manifest.json"}
        assert listed["params.yaml"] == manifest.entry(run / "params.yaml")
        assert bundles.check(bundles.models_of(whole)).keys() == {"classifier"}
        assert [path.name for path in whole.parent.iterdir()] == ["bundle"]

    def test_the_sample_is_predicted_again(self, whole):
        said: list[str] = []
        verify(whole, said.append)
        assert "7 rows" in said[-1]
        p = sample.read(whole / "sample.json")[1]
        assert p.sum(axis=1) == pytest.approx(1) and p.std(axis=0).min() > 1e-3

    def test_where_it_comes_from(self, run, tmp_path):
        Path("dvc.lock").write_text("stages: {}")
        made = bundle_of(tmp_path / "bundle")
        Path("dvc.lock").unlink()
        assert (made / "dvc.lock").read_text() == "stages: {}"
        found = json.loads((made / "provenance.json").read_text())
        metrics = json.loads((run / "metrics/calibrate.json").read_text())
        assert found["commit"] is None and found["metrics"]["calibrate"] == metrics

    def test_half_the_weights_cost_what_it_says(self, run, whole, tmp_path):
        said: list[str] = []
        small = bundle_of(tmp_path / "small", in_half=True, say=said.append)
        weights = "models/train/model.safetensors"
        assert (small / weights).stat().st_size < 0.7 * (whole / weights).stat().st_size
        cost = json.loads((small / "provenance.json").read_text())["half"]
        assert cost == half.cost(run / "models", small / "models")
        assert 0 < abs(cost["log_loss_half"] - cost["log_loss"]) < 1e-3
        assert said[0].startswith("float16 weights: log loss ") and f"{cost['votes']} vo" in said[0]
        verify(small, silent)
        p, q = (sample.read(path / "sample.json")[1] for path in (whole, small))
        assert 0 < np.abs(p - q).max() < 1e-2

    def test_links_of_dvcs_cache_are_followed(self, run, tmp_path):
        shutil.copytree(run / "models", tmp_path / "models")
        weights = tmp_path / "models/train/model.safetensors"
        weights.rename(tmp_path / "cached")
        weights.symlink_to(tmp_path / "cached")
        make.make(tmp_path / "bundle", TARGET, {}, say=silent, models=tmp_path / "models")
        assert not (tmp_path / "bundle/models/train/model.safetensors").is_symlink()

    def refused(self, folder: Path, models: Path | None = None) -> str:
        with pytest.raises(UserError) as refused:
            make.make(folder, TARGET, {}, say=silent, models=models or Path("models"))
        return str(refused.value)

    def test_what_is_there_is_left_alone(self, tmp_path):
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine/file").touch()
        assert "exists: name a new folder" in self.refused(tmp_path / "mine")
        assert os.listdir(tmp_path) == ["mine"] and os.listdir(tmp_path / "mine") == ["file"]

    def test_an_unfinished_run(self, run, tmp_path):
        shutil.copytree(run / "models", tmp_path / "models")
        (tmp_path / "models/train/config.json").write_text("{}")
        assert "train changed" in self.refused(tmp_path / "bundle", tmp_path / "models")

    def test_adapters_alone(self, run, tmp_path):
        models = Path(shutil.copytree(run / "models", tmp_path / "models"))
        (models / "train/adapted.json").write_text('{"backbone": "some/hub-name"}')
        bundles.record_models(models)
        bundles.record_calibrator(models)
        told = self.refused(tmp_path / "bundle", models)
        assert "'some/hub-name'" in told and "model.lora.merge=true" in told

    def test_more_than_fits(self, tmp_path, monkeypatch):
        monkeypatch.setattr(make, "MOST_BYTES", 10_000)
        assert "at most" in self.refused(tmp_path / "bundle")
        assert not os.listdir(tmp_path)

    def test_a_full_disk_leaves_nothing(self, tmp_path, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(manifest, "write", full)
        with pytest.raises(OSError) as error:
            bundle_of(tmp_path / "bundle")
        assert error.value.filename and not os.listdir(tmp_path)


class TestVerify:
    @pytest.mark.parametrize("damaged", DAMAGED)
    def test_refused_before_anything_is_loaded(self, bundle, unloaded, damaged):
        damage, told = DAMAGED[damaged]
        damage(bundle)
        before = sorted(bundle.parent.rglob("*"))
        with pytest.raises(UserError) as refused:
            verify(bundle, silent)
        assert told in str(refused.value)
        faults = 1 + (damaged == "a linked folder") * 4  # its files are missing
        assert len(str(refused.value).splitlines()) == faults
        assert sorted(bundle.parent.rglob("*")) == before

    def test_a_hostile_bundle_runs_nothing(self, bundle):
        """Its manifest names all of it: a pickle, code that transformers is told of, a wheel."""

        class Canary:
            def __reduce__(self):
                return os.mkdir, (str(bundle.parent / "canary"),)

        sings = f"import os; os.mkdir({str(bundle.parent / 'canary')!r})"
        for name in ("train/pytorch_model.bin", "tokenizer/added.pkl", "train/rng_state.pth"):
            (bundle / "models" / name).write_bytes(pickle.dumps(Canary()))
        for name in ("train/modeling.py", "tokenizer/tokenization.py", "../sitecustomize.py"):
            (bundle / "models" / name).write_text(sings)
        for name, key in (
            ("train/config.json", "AutoConfig"),
            ("tokenizer/tokenizer_config.json", "AutoTokenizer"),
        ):
            path = bundle / "models" / name
            config = json.loads(path.read_text())
            path.write_text(json.dumps(config | {"auto_map": {key: "modeling.Sings"}}))
        listed_anew(bundle)
        with pytest.raises(UserError) as refused:
            verify(bundle, silent)
        assert len(str(refused.value).splitlines()) == 6
        for path in [*bundle.rglob("*")]:
            if path.suffix in (".py", ".pkl", ".pth", ".bin"):
                path.unlink()
        bundles.record_models(bundle / "models")
        bundles.record_calibrator(bundle / "models")
        listed_anew(bundle)
        verify(bundle, silent)  # a name of code that is not there is not asked for
        assert not (bundle.parent / "canary").exists()

    @pytest.mark.parametrize(
        ("shift", "in_half", "sound"),
        [(2e-7, False, True), (1e-5, False, False), (1e-5, True, True), (1e-3, True, False)],
    )
    def test_the_samples_figures(self, bundle, monkeypatch, shift, in_half, sound):
        pairs, p = sample.read(bundle / "sample.json")
        about = manifest.read(bundle) | {"half": in_half}
        (bundle / "manifest.json").write_text(json.dumps(about))
        monkeypatch.setattr(sample, "predicted", lambda *_: p + shift)
        if sound:
            verify(bundle, silent)
        else:
            with pytest.raises(UserError, match=f"differ by up to {shift:.1e}"):
                verify(bundle, silent)

    def test_a_library_that_fails_is_one_line(self, bundle, monkeypatch):
        def fails(*_):
            raise RuntimeError("deep\ninside")

        monkeypatch.setattr(sample, "predicted", fails)
        with pytest.raises(UserError) as refused:
            verify(bundle, silent)
        assert len(str(refused.value).splitlines()) == 1

    @pytest.mark.parametrize(
        "text",
        [
            "[]",
            '{"rows": [], "probabilities": []}',
            "[" * 10_000,
            '{"rows": [{}], "probabilities": [[0.5, 0.5, NaN]]}',
        ],
    )
    def test_a_sample_of_another_form(self, bundle, text):
        forged("sample.json", text.encode())(bundle)
        with pytest.raises(UserError, match="no sample"):
            verify(bundle, silent)


class TestNotebook:
    def test_it_is_python_in_nbformat(self):
        made = json.loads(manifest.notebook())
        assert (made["nbformat"], made["nbformat_minor"]) == (4, 5)
        code = ["".join(c["source"]) for c in made["cells"] if c["cell_type"] == "code"]
        compile("\n".join(code), "predict.ipynb", "exec")
        assert b"bfloat16" not in manifest.notebook() and not any("!" in line[:1] for line in code)


def test_predicting_needs_nothing_of_the_pipeline(run, whole, tmp_path):
    """As in an environment that has only what `pip install .` brings."""
    lacking = "rich dvc datasets sklearn plotly datasketch accelerate sentencepiece google"
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({lacking.split()})); "
        "from pairpref import cli; cli.main()"
    )
    test, to = run / "data/raw/simulated/test.csv", tmp_path / "submission.csv"
    asked = ["predict", "--input", test, "--output", to, "--bundle", whole]
    env = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    for command in (asked, ["bundle", "verify", whole]):
        subprocess.run([sys.executable, "-c", code, *map(str, command)], env=env, check=True)
    assert len(to.read_text().splitlines()) == 41
    done = subprocess.run(
        [sys.executable, "-c", code, "recipe"], env=env, capture_output=True, text=True
    )
    assert done.stderr.startswith("pairpref recipe needs rich") and done.returncode == 1
