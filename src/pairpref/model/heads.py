"""The head of the classifier of spans, and what a forward pass gives."""

import torch
from torch import nn
from torch.nn import functional

from pairpref.pairs import LABELS


class SpanHead(nn.Module):
    """Logits from the mean states of prompt, first and second answer, each (batch, hidden).

    Each answer is compared with the prompt by product and absolute difference (Conneau et al. 2017,
    InferSent, section 3.1) in one and the same layer, then the two results with each other.
    """

    def __init__(self, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.compare = nn.Linear(4 * hidden, hidden)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(3 * hidden, len(LABELS))

    def compared(self, prompt: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
        parts = [answer, prompt, answer * prompt, (answer - prompt).abs()]
        return functional.gelu(self.compare(torch.cat(parts, dim=-1)))

    def forward(
        self, prompt: torch.Tensor, first: torch.Tensor, second: torch.Tensor
    ) -> torch.Tensor:
        u, v = self.compared(prompt, first), self.compared(prompt, second)
        return self.out(self.dropout(torch.cat([u, v, u * v], dim=-1)))


def output(logits: torch.Tensor, labels: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """`logits`, (batch, 3), in float32, and for labels, (batch,), their mean `loss`."""
    logits = logits.float()
    if labels is None:
        return {"logits": logits}
    return {"loss": functional.cross_entropy(logits, labels), "logits": logits}
