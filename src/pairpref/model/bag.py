"""A small backbone for a CPU: each text is the mean of its words' vectors by learned weights.

Words that say nothing get small weights, one for each group of a vector's numbers (a group attends
to its own kind of word). That is attention pooling (Yang et al. 2016, "Hierarchical Attention
Networks for Document Classification", section 2.2) whose scores depend on the word alone, so that a
text costs one fused lookup and sum instead of a hundred small operations.
"""

import torch
from torch import nn
from torch.nn import functional
from transformers import AutoConfig, PretrainedConfig

from pairpref.text.compose import PROMPT, SECOND

_MOST = 8.0  # of a weight's logarithm, so that none overflows
_PARTS = SECOND - PROMPT + 1


class BagConfig(PretrainedConfig):
    """Sizes of a `Bag`."""

    model_type = "pairpref-bag"

    def __init__(
        self,
        vocab_size: int = 4,
        hidden_size: int = 4,
        groups: int = 1,
        dropout: float = 0.0,
        **more: object,
    ) -> None:
        self.vocab_size, self.hidden_size = vocab_size, hidden_size
        self.groups, self.dropout = groups, dropout
        super().__init__(**more)


AutoConfig.register(BagConfig.model_type, BagConfig, exist_ok=True)


class Bag(nn.Module):
    """Prompt, first and second answer as one vector each."""

    def __init__(self, config: BagConfig) -> None:
        super().__init__()
        self.groups, self.dropout = config.groups, config.dropout
        self.vectors = nn.Parameter(torch.randn(config.vocab_size, config.hidden_size) * 0.1)
        self.weights = nn.Parameter(torch.zeros(config.vocab_size, config.groups))

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> list[torch.Tensor]:
        """For each part (batch, hidden + 1): the weighted mean, zeros where it has no words, and
        log(1 + words). In training a share of the words, drawn each time, is left out of the mean.
        """
        weight = self.weights.clamp(-_MOST, _MOST).exp()
        hidden = self.vectors.shape[1]
        grouped = self.vectors.unflatten(1, (self.groups, -1)) * weight.unsqueeze(-1)
        table = torch.cat([grouped.flatten(1), weight], dim=1)
        # In a row, the parts follow each other: in their order, each is one bag of ids.
        read = attention_mask.bool() & (token_type_ids >= PROMPT) & (token_type_ids <= SECOND)
        rows = torch.arange(len(input_ids), device=input_ids.device).unsqueeze(1) * _PARTS
        ids, bag = input_ids[read], (rows + token_type_ids - PROMPT)[read]
        counts = torch.bincount(bag, minlength=len(input_ids) * _PARTS)
        lengths = counts.float().log1p().unsqueeze(1)
        if self.training and self.dropout:
            kept = torch.rand(len(ids), device=ids.device) >= self.dropout
            ids, counts = ids[kept], torch.bincount(bag[kept], minlength=len(counts))
        starts = counts.cumsum(0) - counts
        summed = functional.embedding_bag(ids, table, starts, mode="sum")
        top, below = summed[:, :hidden], summed[:, hidden:]
        means = top.unflatten(1, (self.groups, -1)) / (below.unsqueeze(-1) + 1e-6)
        found = torch.cat([means.flatten(1), lengths], dim=1)
        return list(found.view(len(input_ids), _PARTS, -1).unbind(1))
