"""The small backbone of word vectors: weighted means of each part, whatever is around them."""

import pytest
import torch
from pydantic import ValidationError

from pairpref.model import classifier
from pairpref.model.bag import Bag, BagConfig
from pairpref.model.classifier import InferenceConfig
from pairpref.params import BAG
from pairpref.text.compose import FIRST, PROMPT, SECOND

SIZES = {"vocab_size": 20, "hidden_size": 8, "groups": 4}
PARTS = {PROMPT: [3, 4, 3], FIRST: [5], SECOND: [6, 7, 8, 9]}


@pytest.fixture
def bag() -> Bag:
    torch.manual_seed(0)
    bag = Bag(BagConfig(**SIZES))
    torch.nn.init.normal_(bag.weights)
    return bag.eval()


def row(parts: dict[int, list[int]], padding: int = 0) -> tuple[torch.Tensor, ...]:
    """ids, mask and segments of one pair, with a special token before each part."""
    ids, segments = [], []
    for segment in (PROMPT, FIRST, SECOND):
        ids += [1, *parts[segment]]
        segments += [0, *[segment] * len(parts[segment])]
    mask = [1] * len(ids) + [0] * padding
    ids, segments = ids + [0] * padding, segments + [0] * padding
    return tuple(torch.tensor([values]) for values in (ids, mask, segments))


def by_hand(bag: Bag, ids: list[int]) -> torch.Tensor:
    """Each group of a vector's numbers has its own weighted mean over the words."""
    width = SIZES["hidden_size"] // SIZES["groups"]
    means = []
    for group in range(SIZES["groups"]):
        weights = bag.weights[ids, group].exp()
        vectors = bag.vectors[ids, group * width : (group + 1) * width]
        means.append((weights.unsqueeze(1) * vectors).sum(0) / weights.sum())
    return torch.cat([*means, torch.tensor([len(ids)]).float().log1p()])


def test_a_part_is_the_weighted_mean_of_its_words(bag):
    for found, ids in zip(bag(*row(PARTS)), PARTS.values(), strict=True):
        assert torch.allclose(found[0], by_hand(bag, ids), atol=1e-6)


def test_padding_and_the_order_of_words_change_nothing(bag):
    backwards = {segment: ids[::-1] for segment, ids in PARTS.items()}
    for other in (row(PARTS, padding=5), row(backwards)):
        for one, two in zip(bag(*row(PARTS)), bag(*other), strict=True):
            assert torch.allclose(one, two, atol=1e-6)


def test_no_words_are_zeros(bag):
    prompt, first, second = bag(*row(PARTS | {FIRST: []}))
    assert (first == 0).all()
    assert (prompt != 0).any() and (second != 0).any()


def test_words_are_left_out_in_training_only():
    torch.manual_seed(0)
    bag = Bag(BagConfig(**SIZES, dropout=0.5))
    one, two = bag(*row(PARTS))[2], bag(*row(PARTS))[2]
    assert not torch.equal(one, two)
    assert torch.equal(one[:, -1], two[:, -1]), "the length is that of the whole text"
    bag.eval()
    assert torch.allclose(bag(*row(PARTS))[2][0], by_hand(bag, PARTS[SECOND]), atol=1e-6)


def test_a_saved_classifier_gives_the_same_bits(small_params, bpe, tmp_path):
    params = small_params(model__backbone=BAG, model__dropout=0.1).model
    config = InferenceConfig("spans", 64, False, 1, {}, (0.4, 0.35, 0.25), (1.0, 1.0, 1.0))
    torch.manual_seed(0)
    model = classifier.build(params, bpe).eval()
    classifier.save(model, config, tmp_path)
    again, _ = classifier.load(tmp_path)
    ids, mask, segments = row(PARTS)
    given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": segments}
    assert torch.equal(again(**given)["logits"], model(**given)["logits"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__hidden_size": 30}, "hidden_size is 30; small-bag needs a multiple of .*, 8"),
        ({"model__pooling": "cls"}, "pooling=cls is for transformers"),
        ({"train__arguments": {"neftune_noise_alpha": 5}}, "noise_alpha is for transformers"),
        ({"train__arguments": {"gradient_checkpointing": True}}, "pointing is for transformers"),
        ({"model__lora__r": 4}, "lora adapts published backbones; small-bag has none"),
    ],
)
def test_what_a_bag_has_not_is_refused(small_params, changes, message):
    with pytest.raises(ValidationError, match=message):
        small_params(model__backbone=BAG, **changes)
