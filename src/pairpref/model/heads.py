"""The head of the classifier of spans, and what a forward pass gives."""

import torch
from torch import nn
from torch.nn import functional

from pairpref.pairs import LABELS
from pairpref.text.features import WIDTH, Features

_COUNTED = 32  # numbers that a layer makes of an answer's features
_LIMIT = 4.0  # standard deviations from the mean, so that no odd text decides alone
_ALIKE = 1e-6  # a deviation that rounding may give


class Counted(nn.Module):
    """A layer on the counted features of an answer, (…, WIDTH), which gives (…, _COUNTED).

    They are standardised as `fit` says. Features that were all alike then count for nothing.
    """

    mean: torch.Tensor
    deviation: torch.Tensor
    scale: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, _COUNTED)
        # Buffers, so that they are saved with the weights.
        self.register_buffer("mean", torch.zeros(WIDTH))
        self.register_buffer("deviation", torch.ones(WIDTH))
        self.register_buffer("scale", torch.ones(()))

    def fit(self, features: Features, scale: float = 1.0) -> None:
        """Standardise by the mean and the deviation of these pairs from now on.

        Args:
            scale: of the result, below 1 where weights are trained at a high rate: a step of many
                weights together would move the layer too far.
        """
        self.scale.fill_(scale)
        mean, deviation = map(torch.from_numpy, features.moments())
        self.mean.copy_(mean)
        self.deviation.copy_(deviation.masked_fill(deviation < _ALIKE, torch.inf))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        standard = ((features - self.mean) / self.deviation).clamp(-_LIMIT, _LIMIT)
        return functional.gelu(self.layer(standard * self.scale))


class SpanHead(nn.Module):
    """Logits from the mean states of prompt, first and second answer, each (batch, hidden).

    Each answer is compared with the prompt by product and absolute difference (Conneau et al. 2017,
    InferSent, section 3.1) in one and the same layer, then the two results with each other. With
    `features` it is also given what is counted in the answers, (batch, 2, WIDTH).
    """

    counted: Counted  # with features only

    def __init__(self, hidden: int, dropout: float = 0.0, features: bool = False) -> None:
        super().__init__()
        self.compare = nn.Linear(4 * hidden + features * _COUNTED, hidden)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(3 * hidden, len(LABELS))
        if features:
            self.counted = Counted()

    def compared(
        self, prompt: torch.Tensor, answer: torch.Tensor, features: torch.Tensor | None
    ) -> torch.Tensor:
        parts = [answer, prompt, answer * prompt, (answer - prompt).abs()]
        if features is not None:
            parts.append(self.counted(features))
        return functional.gelu(self.compare(torch.cat(parts, dim=-1)))

    def forward(
        self,
        prompt: torch.Tensor,
        first: torch.Tensor,
        second: torch.Tensor,
        features: torch.Tensor | None = None,
    ) -> torch.Tensor:
        of_first, of_second = (None, None) if features is None else features.unbind(dim=1)
        u = self.compared(prompt, first, of_first)
        v = self.compared(prompt, second, of_second)
        return self.out(self.dropout(torch.cat([u, v, u * v], dim=-1)))


def output(logits: torch.Tensor, labels: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """`logits`, (batch, 3), in float32, and for labels, (batch,), their mean `loss`."""
    logits = logits.float()
    if labels is None:
        return {"logits": logits}
    return {"loss": functional.cross_entropy(logits, labels), "logits": logits}
