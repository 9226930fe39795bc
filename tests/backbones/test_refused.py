"""Folders that hold no whole backbone end in one line, and nothing in them runs."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
import zoo
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    WhisperConfig,
)

from pairpref.errors import UserError
from pairpref.model import classifier
from pairpref.text import tokenizer as tokenizers

pytestmark = pytest.mark.usefixtures("here")
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 8656000\n"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """BERT, and DeBERTa as published, made once."""
    root = tmp_path_factory.mktemp("published")
    return {
        family: zoo.MAKERS[family](root / str(i))
        for i, family in enumerate(("BERT", "DeBERTa-v2/v3"))
    }


@pytest.fixture
def folder(published, tmp_path):
    return shutil.copytree(published["BERT"], tmp_path / "backbone")


@pytest.fixture
def build(small_params):
    said: list[str] = []

    def go(folder: Path, pooling: str = "spans") -> torch.nn.Module:
        params = small_params(model__backbone=str(folder), model__pooling=pooling).model
        return classifier.build(params, tokenizers.load(str(folder)), said.append)

    go.said = said
    return go


@pytest.fixture
def refused(capfd):
    def go(call, *args) -> str:
        with pytest.raises(UserError) as error:
            call(*args)
        assert len(str(error.value).splitlines()) == 1 and capfd.readouterr().err == ""
        return str(error.value)

    return go


def rewrite(path: Path, **fields: object) -> None:
    path.write_text(
        json.dumps(json.loads(path.read_text(encoding="utf-8")) | fields), encoding="utf-8"
    )


def as_bin(folder: Path) -> dict[str, torch.Tensor]:
    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return weights


@pytest.mark.parametrize("pooling", zoo.POOLINGS)
class TestBin:
    @pytest.mark.parametrize("shards", [1, 3])
    def test_weights_load_and_are_kept_as_safetensors(
        self, build, folder, tmp_path, pooling, shards
    ):
        expected = build(folder, pooling).state_dict()
        weights = as_bin(folder)
        if shards > 1:
            places = {
                name: f"pytorch_model-{i % shards + 1:05}-of-{shards:05}.bin"
                for i, name in enumerate(weights)
            }
            for file in set(places.values()):
                torch.save(
                    {name: weights[name] for name in weights if places[name] == file}, folder / file
                )
            index = {"metadata": {"total_size": 1}, "weight_map": places}
            (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
            (folder / "pytorch_model.bin").unlink()
        model = build(folder, pooling)
        body = [name for name in expected if "embeddings" in name or "encoder" in name]
        assert len(body) > 10 and all(
            torch.equal(model.state_dict()[name], expected[name]) for name in body
        )

    @pytest.mark.fault(18)
    @pytest.mark.parametrize("kind", ["beside weights", "raw", "shard", "training_args"])
    def test_a_pickle_that_would_run_code_never_does(
        self, build, folder, canary, refused, tmp_path, pooling, kind
    ):
        fired = tmp_path / "fired"
        weights = as_bin(folder)
        if kind == "beside weights":
            torch.save({**weights, "more": canary(fired)}, folder / "pytorch_model.bin")
        elif kind == "raw":
            (folder / "pytorch_model.bin").write_bytes(
                pickle.dumps({**weights, "more": canary(fired)})
            )
        elif kind == "shard":
            (folder / "pytorch_model.bin").rename(folder / "one.bin")
            torch.save({"pooler.dense.bias": canary(fired)}, folder / "two.bin")
            places = {
                name: "two.bin" if name == "pooler.dense.bias" else "one.bin" for name in weights
            }
            index = {"metadata": {"total_size": 1}, "weight_map": places}
            (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
        else:
            torch.save(canary(fired), folder / "training_args.bin")
        if kind == "training_args":
            build(folder, pooling)
        else:
            assert "more than weights" in refused(build, folder, pooling)
        assert not fired.exists()
        pickle.loads(pickle.dumps(canary(fired)))
        assert fired.exists()


@pytest.mark.fault(18)
@pytest.mark.parametrize(
    "kind", ["TransfoXLTokenizer", "RagTokenizer", "PreTrainedTokenizerFast", None]
)
def test_a_pickled_vocabulary_is_never_loaded(folder, canary, refused, tmp_path, kind):
    fired = tmp_path / "fired"
    for name in (
        "vocab.pkl",
        "vocab.bin",
        "vocab.txt",
        "tokenizer.pkl",
        "tokenizer.model",
        "spm.model",
    ):
        (folder / name).write_bytes(pickle.dumps(canary(fired)))
    (folder / "tokenizer.json").unlink()
    rewrite(folder / "tokenizer_config.json", tokenizer_class=kind)
    refused(tokenizers.load, str(folder))
    assert not fired.exists()


class TestRefused:
    @pytest.mark.fault(26)
    @pytest.mark.parametrize(
        "name",
        ["model.safetensors", "pytorch_model.bin", "tokenizer.json", "vocab.txt", "spm.model"],
    )
    def test_git_lfs_pointers(self, build, folder, refused, name):
        if name in ("vocab.txt", "spm.model"):
            (folder / "tokenizer.json").unlink()
        if name == "pytorch_model.bin":
            as_bin(folder)
        (folder / name).write_text(POINTER)
        line = refused(build, folder)
        assert name in line and "git lfs pull" in line

    def test_pointers_that_nobody_reads_are_nothing(self, build, folder):
        for name in ("pytorch_model.bin", "tf_model.h5", "spm.model"):
            (folder / name).write_text(POINTER)
        build(folder)

    @pytest.mark.fault(26)
    def test_a_tokenizer_of_a_newer_format(self, build, folder, refused):
        model = json.loads((folder / "tokenizer.json").read_text())["model"]
        rewrite(folder / "tokenizer.json", model=model | {"type": "SuperBPE"})
        assert "upgrade tokenizers" in refused(build, folder)

    def test_a_damaged_sentencepiece_model(self, published, refused, tmp_path):
        folder = shutil.copytree(published["DeBERTa-v2/v3"], tmp_path / "backbone")
        (folder / "spm.model").write_bytes((folder / "spm.model").read_bytes()[:500])
        line = refused(tokenizers.load, str(folder))
        assert ".model file is damaged" in line and "tiktoken" not in line

    @pytest.mark.fault(26)
    def test_an_adapter(self, build, folder, refused):
        (folder / "adapter_config.json").write_text(
            json.dumps({"base_model_name_or_path": "nobody/base", "peft_type": "LORA"})
        )
        assert "PEFT adapter" in refused(build, folder)

    @pytest.mark.fault(26)
    @pytest.mark.parametrize(
        "method",
        ["bitsandbytes", "gptq", "awq", "compressed-tensors", "torchao", "fp8", "unheard-of"],
    )
    def test_a_quantised_checkpoint(self, build, folder, refused, method):
        options = {"load_in_4bit": True} if method == "bitsandbytes" else {"bits": 4}
        rewrite(folder / "config.json", quantization_config={"quant_method": method, **options})
        line = refused(build, folder)
        assert f"quantised by {method}" in line and "before" in line

    @pytest.mark.fault(26)
    @pytest.mark.parametrize("pooling", zoo.POOLINGS)
    def test_weights_that_are_not_whole(self, build, folder, refused, pooling):
        weights = load_file(folder / "model.safetensors")
        kept = {name: tensor for name, tensor in weights.items() if "attention" not in name}
        save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
        assert "lack 10 of the model's tensors" in refused(build, folder, pooling)

    @pytest.mark.fault(26)
    @pytest.mark.parametrize("pooling", zoo.POOLINGS)
    def test_a_config_of_another_size(self, build, folder, refused, pooling):
        rewrite(folder / "config.json", intermediate_size=32)
        assert "don't belong together" in refused(build, folder, pooling)

    @pytest.mark.parametrize("pooling", zoo.POOLINGS)
    @pytest.mark.parametrize("model", [AutoModel, AutoModelForMaskedLM])
    def test_a_file_of_more_layers_than_the_config(
        self, build, folder, refused, capfd, pooling, model
    ):
        model.from_config(AutoConfig.from_pretrained(folder, num_hidden_layers=2)).save_pretrained(
            folder
        )
        build(folder, pooling)  # a head of masked words is no layer
        capfd.readouterr()  # the bar of saving
        rewrite(folder / "config.json", num_hidden_layers=1)
        line = refused(build, folder, pooling)
        assert "don't fit config.json: 16 tensors" in line and "layer.1." in line

    @pytest.mark.parametrize("dtype", [torch.int8, torch.uint8])
    @pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
    def test_integers(self, build, folder, refused, dtype, file):
        weights = {
            name: tensor.to(dtype)
            for name, tensor in load_file(folder / "model.safetensors").items()
        }
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        if file == "pytorch_model.bin":
            as_bin(folder)
        assert "8-bit integers" in refused(build, folder)

    def test_an_architecture_that_the_library_does_not_know(self, build, folder, refused):
        rewrite(folder / "config.json", model_type="deberta-v9")
        assert "deberta-v9" in refused(build, folder)

    @pytest.mark.parametrize("pooling", zoo.POOLINGS)
    def test_a_model_that_reads_more_than_text(self, tmp_path, pooling):
        size = {
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
        }
        config = WhisperConfig(
            vocab_size=320, d_model=16, encoder_ffn_dim=8, decoder_ffn_dim=8, pad_token_id=0, **size
        )
        zoo.save(config, zoo.byte_level(zoo.ROBERTA), tmp_path / "backbone")
        line = zoo.outcome(tmp_path / "backbone", pooling, tmp_path)
        assert {"spans": "does not read text alone", "cls": "Choose another model.backbone"}[
            pooling
        ] in line
        assert "-S" not in line


class TestMended:
    @pytest.mark.parametrize("pooling", zoo.POOLINGS)
    def test_what_a_config_asks_the_model_to_return(self, build, folder, tmp_path, pooling):
        rewrite(
            folder / "config.json",
            return_dict=False,
            output_attentions=True,
            output_hidden_states=True,
        )
        build(folder, pooling)
        assert zoo.outcome(folder, pooling, tmp_path / "work") == zoo.TRAINS

    @pytest.mark.parametrize("labels", [1, 2])
    def test_a_head_of_another_size_starts_anew(self, build, folder, labels):
        torch.manual_seed(0)
        reward = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=labels)
        reward.save_pretrained(folder)
        model = build(folder, "cls")
        assert model.classifier.out_features == 3 and f"gives {labels} numbers" in build.said[0]
        assert torch.equal(
            model.bert.embeddings.word_embeddings.weight,
            reward.bert.embeddings.word_embeddings.weight,
        )

    @pytest.mark.parametrize("pooling", zoo.POOLINGS)
    @pytest.mark.parametrize("family", ["BERT", "T5", "BART", "Gemma-3 (multimodal)"])
    def test_a_tokenizer_with_more_ids_than_the_backbone(self, build, tmp_path, family, pooling):
        folder = zoo.MAKERS[family](tmp_path / "backbone")
        tokenizer = tokenizers.load(str(folder))
        known = len(tokenizer)
        tokenizer.add_tokens([f"word{i}" for i in range(5)])
        tokenizer.save_pretrained(folder)
        model = build(folder, pooling)
        assert f"{known:,} embeddings" in build.said[0] and f"{known + 5:,} ids" in build.said[0]
        sizes = {m.num_embeddings for m in model.modules() if isinstance(m, torch.nn.Embedding)}
        assert known + 5 in sizes and known not in sizes
        assert zoo.outcome(folder, pooling, tmp_path / "work") == zoo.TRAINS
