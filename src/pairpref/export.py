"""pairpref export DIR [--member classifier|reward] [--fold 0]

One fold's model of a member as a Hugging Face folder: weights, config, tokenizer and a model card.
Run it where `dvc repro` has trained the member. What
`AutoModelForSequenceClassification.from_pretrained(DIR)` loads gives the classifier's logits of A,
B and tie, or the reward model's utility of an answer. A member of model.pooling=cls can be
exported: its head is the library's own.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pairpref import bundle as bundles
from pairpref.cli import parser
from pairpref.errors import UserError, command, say
from pairpref.files import naming, new_folder
from pairpref.params import Member
from pairpref.paths import MODELS, TOKENIZER

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pairpref.model.inference_config import InferenceConfig
    from pairpref.text.tokenizer import Template

CARD = "README.md"
CLASSES = ("A", "B", "tie")
_CHAT = Path(__file__).with_name("reward_chat.jinja")
_TEXTS = ("Two lines:\nthis one ends in a space ", "  é, 豆腐 and <tags>")
_WHOLE = 10**6  # tokens, to cut nothing
_SAMPLE = 4  # held-out pairs that are predicted again
_SAME = 1e-4  # largest difference in probability of the same weights, loaded in two ways
_ALIKE = 0.05  # and where one of them computed in half precision


def export(folder: Path, member: Member = "classifier", fold: int = 0) -> None:
    """Write one model to a new folder, whole or not at all.

    Before it is put in its place it predicts a few held-out pairs: as the member does, and as in
    the table from which the card is made.

    Raises:
        UserError: the folder exists, the member is not there or can't be exported, or data/oof/ is
            of other models.
    """
    with new_folder(folder) as to:
        _write(to, folder.absolute().name, member, fold)
    say(f"fold {fold} of the {member} in {folder}; {folder / CARD} says how to use it")


def _write(to: Path, name: str, member: Member, fold: int) -> None:
    folders = bundles.check(MODELS).get(member, [])
    if fold not in range(len(folders)):
        there = f"folds 0 to {len(folders) - 1}" if folders else "none"
        raise UserError(f"{MODELS} has no fold {fold} of the {member}: it has {there}.")
    source = folders[fold]

    # Seconds to import: --help and a wrong folder need not wait for it.
    from transformers.utils import logging

    from pairpref.model import classifier
    from pairpref.model_card import Run
    from pairpref.text import tokenizer as tokenizers

    config = classifier.load_config(source)
    _refuse(source, config)
    logging.disable_progress_bar()
    tokenizer = tokenizers.load(str(TOKENIZER))
    template = tokenizers.Template.of(tokenizer)
    line_break = tokenizers.encoder(TOKENIZER).line_break
    run = Run.read(fold, len(folders), config, template)
    tokens, told = run.sample(_SAMPLE)

    def p(model: "nn.Module") -> np.ndarray:
        from pairpref.training.inference import by_order

        asked = model, config, tokens, template, _SAMPLE
        return by_order(*asked, precision="fp32").mean(axis=0)

    model, _ = classifier.load(source)
    ours = p(model)
    if not np.abs(ours - told).max() <= _ALIKE:
        raise UserError(
            f"{run.table} holds the predictions of other models than {source}, so it says nothing "
            "of this one. Run `dvc repro`, then export again."
        )
    tie, segments = constant(model), classifier.knows_segments(model.config)
    save(standard(model, config), tokenizer, template.pad, config.longest, to)
    del model
    chat = member == "reward" and not segments and add_chat(to, template, line_break)
    if not np.abs(p(_reloaded(to, tie)) - ours).max() <= _SAME:
        raise UserError(f"{source}: transformers reads this architecture as another model.")
    card = run.card(name, line_break, segments, tie, chat)
    (to / CARD).write_text(card, encoding="utf-8", newline="\n")


def standard(model: "nn.Module", config: "InferenceConfig") -> "PreTrainedModel":
    """A loaded member of model.pooling=cls as the library's own classifier, changed in place.

    Adapters are added to the weights they adapt. A reward model's scale goes into its last layer,
    so that the one logit is the utility.

    Raises:
        UserError: a reward model has no such layer.
    """
    import torch
    from torch import nn

    from pairpref.model import lora

    if any(".lora_" in name for name, _ in model.named_parameters()):
        model = lora.merge(model)
    names: tuple[str, ...] = CLASSES
    if config.member == "reward":
        scorer, names = model.scorer, ("utility",)
        body = {*scorer.base_model.modules()}
        head = [part for part in scorer.modules() if isinstance(part, nn.Linear)]
        last = [part for part in head if part not in body and part.out_features == 1]
        if len(last) != 1:
            raise UserError(f"a {type(scorer).__name__} has no last layer that takes the scale.")
        with torch.no_grad():
            for parameter in last[0].parameters():
                parameter *= (model.FURTHER * model.scale).exp()
        model = scorer
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: number for number, name in enumerate(names)}
    return model


def constant(model: "nn.Module") -> float | None:
    """c of Davidson's ties of a reward model (`pairpref.model.reward`); None of a classifier."""
    return (model.FURTHER * model.tie).item() if hasattr(model, "scorer") else None


def save(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    pad: int,
    longest: int,
    folder: Path,
) -> None:
    """Write weights, config and tokenizer.

    Args:
        pad: id that fills up batches, for a tokenizer without one.
        longest: most tokens of an input.
    """
    from safetensors import SafetensorError

    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad)
    tokenizer.model_max_length = longest
    with naming(folder):
        try:
            model.save_pretrained(folder)
        except SafetensorError as error:  # also that of a full disk
            raise UserError(f"{folder}: could not be written ({error}).") from None
        tokenizer.save_pretrained(folder)


def add_chat(folder: Path, template: "Template", line_break: str) -> bool:
    """Add a chat template that composes a reward model's input, as TRL asks for it.

    Returns:
        Whether it gives the ids that the model was trained on. Otherwise none is added: a tokenizer
        may cut a text after a special token in another way than a text by itself.
    """
    from transformers import AutoTokenizer

    from pairpref.text import tokenizer as tokenizers
    from pairpref.text.compose import inputs

    tokenizer = AutoTokenizer.from_pretrained(folder)
    chat = _CHAT.read_text(encoding="utf-8").replace("LINE_BREAK", json.dumps(line_break))
    tokenizer.chat_template = chat
    roles = zip(("user", "assistant"), _TEXTS, strict=True)
    messages = [{"role": role, "content": content} for role, content in roles]
    shown = tokenizer.apply_chat_template(messages, tokenize=False)
    prompt, answer = tokenizers.encoder(folder)(_TEXTS)
    ours = inputs("reward", prompt, answer, answer, _WHOLE, template)[0].ids
    if tokenizer(shown, add_special_tokens=False)["input_ids"] != ours.tolist():
        return False
    (folder / "chat_template.jinja").write_text(chat, encoding="utf-8", newline="\n")
    return True


def _reloaded(folder: Path, tie: float | None) -> "nn.Module":
    """What a user of the folder gets, for a reward model with ties."""
    from transformers import AutoModelForSequenceClassification

    from pairpref.model.reward import RewardModel

    model = AutoModelForSequenceClassification.from_pretrained(folder)
    if tie is None:
        return model
    reward = RewardModel(model)
    reward.tie.data.fill_(tie / reward.FURTHER)
    return reward


def _refuse(source: Path, config: "InferenceConfig") -> None:
    """Refuse what no class of transformers computes."""
    if config.pooling != "cls":
        raise UserError(
            f"{source}: the head of model.pooling={config.pooling} is pairpref's own, which "
            "transformers can't load. A classifier or reward model can be exported if trained with "
            "-S model.pooling=cls -S model.features=false, and a published backbone or "
            "-S model.backbone=small-deberta-v2; the default's small-bag and the features can't."
        )
    adapted = source / "adapted.json"
    if adapted.exists() and json.loads(adapted.read_text("utf-8"))["quantize"] != "none":
        raise UserError(
            f"{source}: its adapters belong to weights in few bits, which they can't be added to "
            "without other logits. Train with -S model.quantize=none."
        )


def main(argv: list[str] | None = None) -> None:
    about = (__doc__ or "").split("\n\n")[1]
    arguments = parser("export", about, "pairpref export my-judge --member classifier")
    add = arguments.add_argument
    add("folder", metavar="DIR", type=Path, help="a new folder")
    members = ("classifier", "reward")
    add("--member", default=members[0], choices=members, help="(default: %(default)s)")
    add("--fold", default=0, type=int, help="whose model (default: %(default)s)")
    asked = arguments.parse_args(argv)
    with command("export"):
        export(asked.folder, asked.member, asked.fold)


if __name__ == "__main__":
    main()
