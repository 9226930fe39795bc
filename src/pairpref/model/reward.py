"""The reward model: a utility for each answer, read with the prompt alone, and Davidson's ties.

p(A) ∝ exp(u_A), p(B) ∝ exp(u_B), p(tie) ∝ exp(c + (u_A + u_B) / 2) (Davidson 1970, "On Extending
the Bradley-Terry Model to Accommodate Ties in Paired Comparison Experiments", equation 2.3).
Exchanging the answers exchanges p(A) and p(B): one order is enough, in training and prediction.

A batch of n pairs is 2n inputs: A and B of the first pair, A and B of the second, and so on.
"""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from pairpref.model.heads import SpanHead, output


def davidson(utilities: torch.Tensor, tie: torch.Tensor) -> torch.Tensor:
    """Logits of A, B and tie, (n, 3), from utilities of A and B, (n, 2), and c, (n,) or ()."""
    return torch.cat([utilities, (tie + utilities.mean(dim=1)).unsqueeze(1)], dim=1)


class RewardHead(SpanHead):
    """Logits of n pairs from the mean states of prompt and answer, each (2n, hidden).

    The answer is compared with the prompt as in `SpanHead`. c depends on both results z by their
    absolute difference and their product: a tie of two good answers differs from one of two bad.
    Features are those of `SpanHead`, (n, 2, WIDTH).
    """

    def __init__(self, hidden: int, dropout: float = 0.0, features: bool = False) -> None:
        super().__init__(hidden, dropout, features)
        self.out = nn.Linear(hidden, 1)
        self.tie = nn.Linear(2 * hidden, 1)

    def forward(
        self,
        prompt: torch.Tensor,
        answer: torch.Tensor,
        _: torch.Tensor,
        features: torch.Tensor | None = None,
    ) -> torch.Tensor:
        of_answer = None if features is None else features.flatten(0, 1)
        z = self.dropout(self.compared(prompt, answer, of_answer)).unflatten(0, (-1, 2))
        a, b = z.unbind(dim=1)
        tie = self.tie(torch.cat([(a - b).abs(), a * b], dim=-1))
        return davidson(self.out(z).squeeze(-1), tie.squeeze(-1))


class RewardModel(nn.Module):
    """A library's sequence classifier with one label, which is the utility, times a scale.

    Scale and c are few numbers that may have far to go, at rates made for pretrained weights: they
    are parametrised so that a step moves them further.
    """

    FURTHER = 30.0

    def __init__(self, scorer: PreTrainedModel) -> None:
        super().__init__()
        self.scorer, self.config = scorer, scorer.config
        self.scale = nn.Parameter(torch.zeros(()))
        self.tie = nn.Parameter(torch.zeros(()))

    @property
    def backbone(self) -> nn.Module:
        """All but the head."""
        return self.scorer.base_model

    def activation_checkpointing_enable(self, *options: Any, **named: Any) -> None:
        """Called by Trainer for gradient_checkpointing."""
        self.scorer.activation_checkpointing_enable(*options, **named)

    def get_input_embeddings(self) -> nn.Module:
        """Called by Trainer for neftune_noise_alpha."""
        return self.scorer.get_input_embeddings()

    def forward(
        self, labels: torch.Tensor | None = None, **inputs: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """As `PairClassifier`, of inputs (2n, tokens) and labels (n,)."""
        scores = self.scorer(**inputs).logits.float().view(-1, 2)
        utilities = scores * (self.FURTHER * self.scale).exp()
        return output(davidson(utilities, self.FURTHER * self.tie), labels)
