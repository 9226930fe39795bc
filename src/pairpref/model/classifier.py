"""The classifier of pairs: a transformer backbone and three logits, A, B and tie.

`model.pooling: cls` is `AutoModelForSequenceClassification` as it comes. `spans` averages the last
layer over the prompt and over each answer, and compares each answer with the prompt: from random
weights it learns in one epoch what [CLS] pooling does not learn in three.
"""

import copy
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoConfig,
    DebertaV2Config,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from pairpref import backbone as sources
from pairpref.errors import UserError
from pairpref.files import write_json
from pairpref.model import backbone, lora, weights
from pairpref.model.bag import Bag, BagConfig
from pairpref.model.heads import SpanHead, output
from pairpref.model.inference_config import InferenceConfig
from pairpref.model.reward import RewardHead, RewardModel
from pairpref.pairs import LABELS
from pairpref.params import BAG, SMALL, Member, ModelParams
from pairpref.text import published
from pairpref.text.compose import FIRST, PROMPT, SECOND, SEGMENTS
from pairpref.text.tokenizer import Template

_WEIGHTS, _CONFIG, _ADAPTED = "model.safetensors", "classifier.json", "adapted.json"
_HEADS: dict[Member, type[SpanHead]] = {"classifier": SpanHead, "reward": RewardHead}


class PairClassifier(nn.Module, ABC):
    """A head on whatever reads the parts of a pair: a `SpanHead`, or a `RewardHead`.

    Called with input_ids, attention_mask and token_type_ids (the segments of `text.compose`), each
    (batch, tokens), and `features` if its head has a layer for them (`heads.Counted`). Gives
    `logits`, (batch, 3), and for `labels`, (batch,), the mean `loss`.
    """

    head: SpanHead

    @abstractmethod
    def parts(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> list[torch.Tensor]:
        """Prompt, first and second answer, each (batch, hidden)."""

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor,
        labels: torch.Tensor | None = None,
        features: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        parts = self.parts(input_ids, attention_mask, token_type_ids)
        return output(self.head(*parts, features), labels)


class SpanClassifier(PairClassifier):
    """Means of the last layer of the part of a backbone that reads text."""

    def __init__(self, model: PreTrainedModel, head: Callable[..., SpanHead] = SpanHead) -> None:
        super().__init__()
        self.backbone, self.config = backbone.reader(model)
        # Processes that train together ask for a gradient of every weight that can have one.
        for name, parameter in self.backbone.named_parameters():
            if name.startswith("pooler."):
                parameter.requires_grad_(False)
        dropout = getattr(self.config, "hidden_dropout_prob", 0.0) or 0.0
        self.head = head(_width(self.backbone), dropout)

    def activation_checkpointing_enable(self, *options: Any, **named: Any) -> None:
        """Called by Trainer for activation_checkpointing."""
        self.backbone.activation_checkpointing_enable(*options, **named)

    def get_input_embeddings(self) -> nn.Module:
        """Called by Trainer for neftune_noise_alpha."""
        return self.backbone.get_input_embeddings()

    def parts(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> list[torch.Tensor]:
        known = {"token_type_ids": token_type_ids} if knows_segments(self.config) else {}
        out = self.backbone(input_ids=input_ids, attention_mask=attention_mask, **known)
        states, read = out.last_hidden_state, attention_mask.bool()
        where = ((token_type_ids == segment) & read for segment in (PROMPT, FIRST, SECOND))
        return [_mean(states, part) for part in where]


class BagClassifier(PairClassifier):
    """Weighted means of word vectors (`model.bag`)."""

    def __init__(self, config: BagConfig, head: Callable[..., SpanHead] = SpanHead) -> None:
        super().__init__()
        self.config, self.bag = config, Bag(config)
        self.head = head(config.hidden_size + 1)

    def parts(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> list[torch.Tensor]:
        return self.bag(input_ids, attention_mask, token_type_ids)


def knows_segments(config: PretrainedConfig) -> bool:
    """Whether a backbone has a token type for each segment; BERT has two, DeBERTa-v3 none."""
    return (getattr(config, "type_vocab_size", 0) or 0) >= SEGMENTS


def build(
    params: ModelParams,
    tokenizer: PreTrainedTokenizerBase,
    say: Callable[[str], None] = print,
    path: str | None = None,
    revision: str | None = None,
    member: Member = "classifier",
) -> nn.Module:
    """A classifier to train, in float32; the small default has random weights (seed torch first).

    Args:
        member: build this instead of the classifier.
        say, path, revision: as in `backbone.load`, which also says what is raised.
    """
    if params.backbone == BAG:
        sizes = {name: getattr(params, name) for name in ("hidden_size", "groups", "dropout")}
        bag = BagConfig(vocab_size=len(tokenizer), **sizes)
        return BagClassifier(bag, _head(member, params.features))
    if params.backbone == SMALL:
        config = _small_config(params, tokenizer)
        small = backbone.from_config(config, params.pooling, _labels(member))
        return _adapted(_headed(small, params.pooling, member, params.features), params)
    words = max(tokenizer.get_vocab().values()) + 1
    return _published(params, words, Template.of(tokenizer).pad, say, path, revision, member)


def _published(
    params: ModelParams,
    words: int,
    pad: int,
    say: Callable[[str], None],
    path: str | None,
    revision: str | None,
    member: Member,
) -> nn.Module:
    model = backbone.load(params, words, pad, say, path, revision, _labels(member))
    try:
        return _adapted(_headed(model, params.pooling, member, params.features), params)
    except UserError:
        raise
    except Exception as error:  # a model that reads more than text may raise anything
        raise UserError(
            f"model.backbone {params.backbone!r} does not read text alone "
            f"({published.one_line(error)}): give one that does."
        ) from None


def _adapted(model: nn.Module, params: ModelParams) -> nn.Module:
    return lora.adapt(model, params.lora) if params.lora.r else model


def save(
    model: nn.Module, config: InferenceConfig, folder: Path, adapted: ModelParams | None = None
) -> None:
    """Write config.json, model.safetensors and classifier.json; `load` gives the same bits back.

    Args:
        adapted: what a model with adapters was built by: they are saved with the name of the
            backbone alone, or, with lora.merge, added to it.
    """
    model.config.save_pretrained(folder)
    if adapted and adapted.lora.merge:
        model = lora.merge(copy.deepcopy(model))
    elif adapted:
        write_json(folder / _ADAPTED, adapted.model_dump(mode="json"))
    save_file(weights.of(model), folder / _WEIGHTS, metadata={"format": "pt"})
    write_json(folder / _CONFIG, asdict(config))


def load(folder: Path) -> tuple[nn.Module, InferenceConfig]:
    """Read what `save` wrote, ready to predict; a missing or damaged file is a UserError."""
    config = load_config(folder)
    with _saved(folder):
        of_backbone = AutoConfig.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
        if (folder / _ADAPTED).exists():
            params = ModelParams(**json.loads((folder / _ADAPTED).read_text(encoding="utf-8")))
            text = of_backbone.get_text_config()
            words, pad = text.vocab_size, text.pad_token_id
            found = sources.found(params)
            model = _published(params, words, pad, lambda _: None, *found, config.member)
        elif isinstance(of_backbone, BagConfig):
            model = BagClassifier(of_backbone, _head(config.member, config.features))
        else:
            labels = _labels(config.member)
            model = backbone.from_config(of_backbone, config.pooling, labels)
            model = _headed(model, config.pooling, config.member, config.features)
        weights.put(model, load_file(folder / _WEIGHTS))
    return model.eval(), config


def load_config(folder: Path) -> InferenceConfig:
    """The config of a saved classifier, without its weights; raises UserError."""
    with _saved(folder):
        return InferenceConfig(**json.loads((folder / _CONFIG).read_text(encoding="utf-8")))


@contextmanager
def _saved(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        reason = published.one_line(error)
        raise UserError(f"{folder}: not a saved classifier ({reason}). Train it again.") from None


def _headed(model: PreTrainedModel, pooling: str, member: Member, features: bool) -> nn.Module:
    if pooling == "cls":
        return RewardModel(model) if member == "reward" else model
    return SpanClassifier(model, _head(member, features))


def _head(member: Member, features: bool) -> Callable[..., SpanHead]:
    return partial(_HEADS[member], features=features)


def _labels(member: Member) -> int:
    """Of a library's own classifier: a reward model gives one number for each answer."""
    return 1 if member == "reward" else len(LABELS)


def _width(backbone: nn.Module) -> int:
    """Of the states a backbone gives, which its config calls by many names."""
    training, two = backbone.training, torch.ones(1, 2, dtype=torch.long)
    with torch.no_grad():
        width = backbone.eval()(input_ids=two, attention_mask=two).last_hidden_state.shape[-1]
    backbone.train(training)
    return width


def _small_config(params: ModelParams, tokenizer: PreTrainedTokenizerBase) -> DebertaV2Config:
    """A small DeBERTa-v2, without relative attention, which would cost more than everything else.

    With `spans` there are no position and no segment embeddings either: the head knows the parts,
    and they delay learning by an epoch. With `cls` nothing else tells A from B.
    """
    cls, hidden = params.pooling == "cls", params.hidden_size
    heads = next(h for h in range(max(1, hidden // 32), 0, -1) if hidden % h == 0)
    return DebertaV2Config(
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        hidden_size=hidden,
        num_hidden_layers=params.layers,
        num_attention_heads=heads,
        intermediate_size=2 * hidden,
        max_position_embeddings=params.max_length,
        type_vocab_size=SEGMENTS if cls else 0,
        relative_attention=False,
        position_biased_input=cls,
        hidden_dropout_prob=params.dropout,
        attention_probs_dropout_prob=params.dropout,
    )


def _mean(states: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Mean over the tokens where a mask (batch, tokens) holds; zeros where it holds nowhere."""
    weight = where.to(states.dtype).unsqueeze(-1)
    return (states * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
