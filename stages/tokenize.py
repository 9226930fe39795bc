"""python -m stages.tokenize: prompt, A and B of every pair to ids, once each; pairs are composed when a batch is made.

Reads data/clean/pairs.parquet and data/backbone/; writes models/tokenizer/ and data/tokens/. For the small default a byte-level BPE is
trained on the votes' texts; any other backbone brings its own tokenizer.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from pairpref import backbone, monitor
from pairpref.monitor import Log
from pairpref.pairs import TEXTS
from pairpref.parallel import each
from pairpref.params import SMALL, Params
from pairpref.text import tokenizer as tokenizers
from pairpref.text import tokens as token_files

PAIRS = Path("data/clean/pairs.parquet")
TOKENS = Path("data/tokens")
TOKENIZER = Path("models/tokenizer")
ROWS_A_PROCESS = 50_000


def tokenize(params: Params, log: Log) -> None:
    frame = pd.read_parquet(PAIRS, columns=["id", *TEXTS, "label", "group", "fold"])
    if params.model.backbone == SMALL:
        texts = (text for column in TEXTS for text in frame[column].dropna())
        tokenizer = tokenizers.train_bpe(texts, params.tokenize.vocab_size)
        log.say(f"trained a byte-level BPE of {len(tokenizer):,} tokens on {len(frame):,} votes")
    else:
        tokenizer = tokenizers.load(params.model.backbone, *backbone.source(params.model))
    tokenizers.save(tokenizer, TOKENIZER)

    def run(job: Callable, arguments: Iterable[tuple]) -> Iterable:
        # A tokenizer's threads take all cores as it is: for fewer rows another process would only cost its start.
        shards = each(job, arguments, params.parallel, at_most=max(1, len(frame) // ROWS_A_PROCESS))
        return log.track(
            shards, -(-len(frame) // token_files.SHARD), f"shards of {token_files.SHARD:,} rows"
        )

    tokens = token_files.tokenize(frame, TOKENIZER, run)
    token_files.save(tokens, TOKENS)

    lengths = tokens.lengths()
    log.say(f"{lengths.sum():,} tokens, {lengths.mean():.0f} a pair")
    log.event(
        "tokenized",
        rows=len(tokens),
        tokens=int(lengths.sum()),
        line_break=tokenizers.encoder(TOKENIZER).line_break,
    )


if __name__ == "__main__":
    monitor.run("tokenize", tokenize)
