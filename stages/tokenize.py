"""python -m stages.tokenize: prompt, A and B of every pair to ids, once each.

Reads data/clean/pairs.parquet and data/backbone/; writes models/tokenizer/ and data/tokens/, with
template.json, the special ids between the parts. For the small default a byte-level BPE is trained
on the votes' texts; any other backbone brings its own tokenizer.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict

import pandas as pd

from pairpref import backbone, monitor, paths
from pairpref.files import write_json
from pairpref.monitor import Log
from pairpref.pairs import TEXTS
from pairpref.parallel import each
from pairpref.params import BUILT_IN, Params
from pairpref.text import tokenizer as tokenizers
from pairpref.text import tokens as token_files

_ROWS_A_PROCESS = 50_000  # a tokenizer's threads take all cores: fewer rows need one process only


def tokenize(params: Params, log: Log) -> None:
    frame = pd.read_parquet(paths.PAIRS, columns=["id", *TEXTS, "label", "group", "fold"])
    if params.model.backbone in BUILT_IN:
        texts = (text for column in TEXTS for text in frame[column].dropna())
        tokenizer = tokenizers.train_bpe(texts, params.tokenize.vocab_size)
        log.say(f"trained a byte-level BPE of {len(tokenizer):,} tokens on {len(frame):,} votes")
    else:
        tokenizer = tokenizers.load(params.model.backbone, *backbone.source(params.model))
    tokenizer.save_pretrained(paths.TOKENIZER)

    def run(job: Callable, arguments: Iterable[tuple]) -> Iterable:
        most = max(1, len(frame) // _ROWS_A_PROCESS)
        shards, size = each(job, arguments, params.parallel, at_most=most), token_files.SHARD
        return log.track(shards, -(-len(frame) // size), f"shards of {size:,} rows")

    tokens = token_files.tokenize(frame, paths.TOKENIZER, run)
    token_files.save(tokens, paths.TOKENS)
    write_json(paths.TEMPLATE, asdict(tokenizers.Template.of(tokenizer)))

    lengths = tokens.lengths()
    total, line_break = int(lengths.sum()), tokenizers.encoder(paths.TOKENIZER).line_break
    log.say(f"{total:,} tokens, {lengths.mean():.0f} a pair")
    log.event("tokenized", rows=len(tokens), tokens=total, line_break=line_break)


if __name__ == "__main__":
    monitor.run("tokenize", tokenize)
