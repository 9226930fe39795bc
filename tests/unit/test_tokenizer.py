"""Text to ids: repeatable training, no special ids from text, line breaks kept."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, CanineTokenizer, PreTrainedTokenizerFast

from pairpref.data import arena, cells
from pairpref.errors import UserError
from pairpref.params import SMALL
from pairpref.text import tokenizer as tokenizers
from pairpref.text.tokenizer import Encoder, Template

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def refused(name: Path | str) -> str:
    with pytest.raises(UserError) as error:
        tokenizers.load(str(name))
    assert len(str(error.value).splitlines()) == 1 and str(name) in str(error.value)
    return str(error.value)


@pytest.fixture(scope="module")
def texts(small_params):
    settings = small_params().simulate
    return [cells.join(cell) for row in range(200) for cell in arena.vote(row, settings).shown]


class TestByteLevel:
    def test_trained_twice_it_is_the_same_byte_for_byte(self, texts, tmp_path):
        for run in ("one", "two"):
            tokenizers.train_bpe(iter(texts), 700).save_pretrained(tmp_path / run)
        files = sorted(path.name for path in (tmp_path / "one").iterdir())
        assert "tokenizer.json" in files and files == sorted(
            path.name for path in (tmp_path / "two").iterdir()
        )
        assert all(
            (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
            for name in files
        )

    def test_other_texts_are_another_tokenizer(self, texts):
        one, two = (
            tokenizers.train_bpe(part, 700).get_vocab() for part in (texts[:300], texts[300:])
        )
        assert one != two

    def test_the_vocabulary_is_no_larger_than_asked(self, texts):
        assert len(tokenizers.train_bpe(texts, 300)) == 300
        assert 260 <= len(tokenizers.train_bpe(["a"], 5000)) < 300

    @settings(max_examples=60)
    @given(TEXT | TEXT.map("[SEP]{}[CLS]".format))
    def test_every_text_comes_back(self, bpe, text):
        [ids] = Encoder(bpe)([text])
        back = bpe.decode(ids.tolist(), clean_up_tokenization_spaces=False)
        # A text that begins with a space has the one the tokenizer would add.
        assert text in (back, back.removeprefix(" "))
        assert ids.dtype == np.int32 and (len(ids) > 0) == (text != "")

    def test_saved_and_loaded_it_encodes_alike(self, bpe, texts, tmp_path):
        bpe.save_pretrained(tmp_path)
        loaded = tokenizers.load(str(tmp_path))
        for one, two in zip(Encoder(bpe)(texts[:50]), Encoder(loaded)(texts[:50]), strict=True):
            assert np.array_equal(one, two)
        assert Template.of(loaded) == Template.of(bpe)


@pytest.fixture(scope="module", params=["bpe", "word pieces"])
def tokenizer(request, word_pieces, tmp_path_factory, bpe):
    if request.param == "bpe":
        folder = tmp_path_factory.mktemp("bpe")
        bpe.save_pretrained(folder)
        return tokenizers.load(str(folder))
    return tokenizers.load(str(word_pieces("|", "[", "]", "sep", "cls")))


class TestEncoder:
    @pytest.mark.parametrize(
        "text", ["[SEP]", "a [CLS] b", "[PAD][PAD]", "x[SEP]y", " [SEP] ", "[SEP]\n[SEP]"]
    )
    def test_no_text_makes_a_special_id(self, tokenizer, text):
        special = {tokenizer.convert_tokens_to_ids(token) for token in ("[SEP]", "[CLS]", "[PAD]")}
        assert special < set(tokenizer.all_special_ids)
        [ids] = Encoder(tokenizer)([text])
        assert len(ids) and not special & set(ids.tolist())

    def test_a_line_break_is_not_a_space(self, tokenizer):
        encode = Encoder(tokenizer)
        broken, spaced = encode(["a\nb", "a b"])
        assert not np.array_equal(broken, spaced)
        if tokenizer.unk_token_id is not None:
            assert tokenizer.unk_token_id not in broken

    def test_the_number_of_texts_and_their_company_change_nothing(self, tokenizer):
        encode, texts = Encoder(tokenizer), ["a b c", "", "d\ne", "a" * 50]
        assert all(
            np.array_equal(together, encode([text])[0])
            for text, together in zip(texts, encode(texts), strict=True)
        )
        assert encode([]) == []

    def test_nothing_is_cut_or_padded_whatever_the_tokenizer_was_saved_with(self, tokenizer):
        whole = Encoder(tokenizer)(["a b c d e f g h", "a"])
        tokenizer.backend_tokenizer.enable_truncation(3)
        tokenizer.backend_tokenizer.enable_padding(length=20)
        assert [len(ids) for ids in Encoder(tokenizer)(["a b c d e f g h", "a"])] == [
            len(ids) for ids in whole
        ]


def test_the_mark_of_a_line_break_is_one_the_tokenizer_has(word_pieces, bpe):
    assert Encoder(bpe).line_break == "\n"
    for words, mark in ((("¶", "|"), " ¶ "), (("|", ";"), " | "), ((";",), " ; "), ((), "\n")):
        encode = Encoder(AutoTokenizer.from_pretrained(word_pieces(*words)))
        assert encode.line_break == mark
        [broken], [marked] = encode(["a\nb"]), encode([f"a{mark}b"])
        assert np.array_equal(broken, marked)


class TestTemplate:
    def test_cls_and_sep(self, bpe):
        assert Template.of(bpe) == Template(bpe.cls_token_id, bpe.sep_token_id, bpe.pad_token_id)

    def test_start_and_end_of_a_sequence_where_there_is_no_cls_and_sep(self, bpe):
        decoder = PreTrainedTokenizerFast(
            tokenizer_object=bpe.backend_tokenizer, bos_token="a", eos_token="b"
        )
        a, b = decoder.convert_tokens_to_ids(["a", "b"])
        assert Template.of(decoder) == Template(start=a, separator=b, pad=b)
        endless = PreTrainedTokenizerFast(tokenizer_object=bpe.backend_tokenizer, eos_token="b")
        assert Template.of(endless) == Template(start=None, separator=b, pad=b)

    def test_neither_is_refused(self, bpe):
        with pytest.raises(UserError, match="separator"):
            Template.of(
                PreTrainedTokenizerFast(tokenizer_object=bpe.backend_tokenizer, cls_token="a")
            )


class TestFolders:
    def test_missing(self, tmp_path):
        refused(tmp_path / "none")
        refused("nobody/nothing")
        assert "tokenize stage trains it" in refused(SMALL)

    def test_slow(self, tmp_path):
        CanineTokenizer().save_pretrained(tmp_path)
        assert "slow" in refused(tmp_path)

    @pytest.mark.parametrize("content", ["", "{", "{}", "[]", "\x00"])
    def test_damaged(self, tiny_backbone, content):
        folder = tiny_backbone("bert")
        (folder / "tokenizer.json").write_text(content)
        refused(folder)

    def test_a_model_without_its_tokenizer(self, tiny_backbone):
        folder = tiny_backbone("bert")
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (folder / name).unlink()
        refused(folder)

    def test_code_in_the_folder_never_runs(self, tiny_backbone, tmp_path):
        folder, fired = tiny_backbone("bert"), tmp_path / "fired"
        code = (
            f"open({str(fired)!r}, 'w')\nfrom transformers import PreTrainedTokenizerFast as Evil\n"
        )
        (folder / "evil.py").write_text(code, encoding="utf-8")
        config = json.loads((folder / "tokenizer_config.json").read_text())
        for name in ("Evil", config["tokenizer_class"]):
            config |= {
                "tokenizer_class": name,
                "auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]},
            }
            (folder / "tokenizer_config.json").write_text(json.dumps(config))
            try:
                tokenizers.load(str(folder))
            except UserError as error:
                assert len(str(error).splitlines()) == 1
        assert not fired.exists()
