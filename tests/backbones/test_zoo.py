"""Every family of the zoo trains, resumes and predicts bit for bit, or is refused.

docs/backbones.md says which.
"""

from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import zoo

from pairpref.text import tokenizer as tokenizers
from pairpref.text.tokenizer import Encoder, Template

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A family's backbone, made once."""
    made: dict[str, Path] = {}

    def of(family: str) -> Path:
        if family not in made:
            made[family] = zoo.MAKERS[family](tmp_path_factory.mktemp("zoo") / "backbone")
        return made[family]

    return of


@pytest.mark.fault(26)
@pytest.mark.parametrize("pooling", zoo.POOLINGS)
@pytest.mark.parametrize("family", zoo.MAKERS)
def test_a_family_does_what_the_table_says(folder, here, family, pooling):
    said = dict(zip(zoo.POOLINGS, zoo.committed()[family], strict=True))[pooling]
    assert zoo.outcome(folder(family), pooling, here) == said


@pytest.mark.parametrize("family", ["BERT", "Qwen2"])
def test_the_classifier_of_a_family_can_be_a_reward_model(folder, here, family):
    assert zoo.outcome(folder(family), "cls", here, "reward") == zoo.TRAINS


def test_the_table_has_a_row_for_every_family():
    assert list(zoo.committed()) == list(zoo.MAKERS)


def test_deberta_is_laid_out_as_published_and_its_words_are_those_of_sentencepiece(
    folder, tmp_path
):
    published = folder("DeBERTa-v2/v3")
    assert {path.name for path in published.iterdir()} == {
        "config.json",
        "spm.model",
        "pytorch_model.bin",
        "tokenizer_config.json",
    }
    converted = tokenizers.load(str(published))
    converted.save_pretrained(tmp_path / "tokenizer")
    assert (tmp_path / "tokenizer" / "tokenizer.json").is_file()
    loaded = tokenizers.load(str(tmp_path / "tokenizer"))
    words = sentencepiece.SentencePieceProcessor(model_file=str(published / "spm.model"))
    texts = [
        "kettle bridge  sparrow",
        "what should one know of a number 12?",
        " lead",
        "a",
        "Zq é",
        "",
    ]
    for encode in (Encoder(converted), Encoder(loaded)):
        assert [ids.tolist() for ids in encode(texts)] == [words.encode(text) for text in texts]
    assert Template.of(loaded) == Template(start=1, separator=2, pad=0)


def test_the_tokenizer_is_converted_to_the_same_bytes_each_time(folder, tmp_path):
    for run in ("one", "two"):
        tokenizers.load(str(folder("DeBERTa-v2/v3"))).save_pretrained(tmp_path / run)
    one, two = (
        {path.name: path.read_bytes() for path in (tmp_path / run).iterdir()}
        for run in ("one", "two")
    )
    assert one == two


def test_votes_of_the_zoo_are_cut_and_padded(folder, tmp_path):
    tokenizers.load(str(folder("GPT-2"))).save_pretrained(tmp_path)
    lengths = zoo.votes(tmp_path).lengths()
    assert lengths.max() > 48 and len(np.unique(lengths)) > 4
