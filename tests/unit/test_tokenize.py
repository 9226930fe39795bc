"""The tokenize stage: every row once, by the tokenizer that belongs to the backbone."""

import json

import numpy as np
import pandas as pd

from pairpref import paths
from pairpref.monitor import Log
from pairpref.text import tokenizer as tokenizers
from pairpref.text import tokens as token_files
from stages import tokenize as stage
from stages.backbone import backbone
from stages.clean import clean
from stages.simulate import simulate


def run(settings):
    for body in (simulate, clean, backbone, stage.tokenize):
        body(settings, Log("test"))
    return token_files.load(paths.TOKENS), pd.read_parquet(paths.PAIRS)


def test_every_row_in_order(small_params, here):
    tokens, pairs = run(small_params())
    assert list(tokens.ids) == list(pairs["id"])
    for name, column in (("labels", "label"), ("groups", "group"), ("folds", "fold")):
        assert np.array_equal(getattr(tokens, name), pairs[column])
    tokenizer = tokenizers.load(str(paths.TOKENIZER))
    kept = tokenizers.Template(**json.loads(paths.TEMPLATE.read_text()))
    assert kept == tokenizers.Template.of(tokenizer)
    prompt, a, b = tokens.pair(7)
    assert [tokenizer.decode(part).strip() for part in (prompt, a, b)] == [
        pairs.loc[7, column].strip() for column in ("prompt", "response_a", "response_b")
    ]


def test_a_backbone_brings_its_own(small_params, here, tiny_backbone):
    folder = tiny_backbone("bert")
    tokens, _ = run(small_params(model__backbone=str(folder)))
    assert tokens.lengths().min() > 0
    saved, own = (tokenizers.load(str(path)) for path in (paths.TOKENIZER, folder))
    assert saved.get_vocab() == own.get_vocab()
