"""Fused attention of DeBERTa: the same logits and gradients, other names of nothing."""

import pytest
import torch
from transformers import DebertaV2Config, DebertaV2Model

from pairpref.model import attention
from pairpref.model.classifier import SpanClassifier


@pytest.fixture
def eager():
    """One layer of DeBERTa-v3-base's shape, without dropout."""
    torch.manual_seed(0)
    config = DebertaV2Config(
        vocab_size=300,
        hidden_size=768,
        num_attention_heads=12,
        num_hidden_layers=1,
        intermediate_size=3072,
        relative_attention=True,
        position_buckets=256,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        type_vocab_size=0,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return SpanClassifier(DebertaV2Model(config))


def learned(model: SpanClassifier) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Logits and gradients of a padded batch."""
    torch.manual_seed(1)
    ids = torch.randint(5, 300, (2, 96))
    mask = torch.ones_like(ids)
    mask[1, 40:] = 0
    segments = torch.arange(96).clamp(max=89).div(30, rounding_mode="floor").add(1).expand(2, -1)
    model.zero_grad()
    out = model(ids, mask, segments, torch.tensor([0, 2]))
    out["loss"].backward()
    grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return out["logits"].detach(), grads


def test_it_gives_the_same_logits_and_gradients(eager, monkeypatch):
    """By the package's own formulation in PyTorch; `benchmarks/gpu.py` compares its kernel."""
    logits, grads = learned(eager)
    names = list(eager.state_dict())
    monkeypatch.setattr(attention, "_problem", lambda *_: None)
    monkeypatch.setattr(attention, "_BACKEND", "torch")
    before = type(eager.backbone.encoder)
    attention.fuse(eager, "auto")
    assert type(eager.backbone.encoder) is not before
    fused, its_grads = learned(eager)
    assert list(eager.state_dict()) == names
    torch.testing.assert_close(fused, logits, atol=1e-4, rtol=1e-4)
    assert its_grads.keys() == grads.keys()
    for name, grad in grads.items():
        torch.testing.assert_close(its_grads[name], grad, atol=1e-4, rtol=1e-4, msg=name)


@pytest.mark.parametrize(("asked", "said"), [("auto", []), ("eager", []), ("fused", ["no GPU"])])
def test_without_a_gpu_nothing_is_replaced(eager, asked, said):
    lines: list[str] = []
    before = type(eager.backbone.encoder)
    attention.fuse(eager, asked, lines.append)
    assert type(eager.backbone.encoder) is before
    assert len(lines) == len(said) and all(a in b for a, b in zip(said, lines, strict=True))
