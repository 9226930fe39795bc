"""train.arguments: what Trainer knows is passed on; what the pipeline sets is refused."""

from dataclasses import fields

import pytest
from transformers import TrainingArguments

from pairpref.errors import UserError
from pairpref.training import arguments
from pairpref.training.arguments import training_arguments


@pytest.fixture
def made(small_params, tmp_path):
    def make(steps: int = 100, **changes: object) -> TrainingArguments:
        return training_arguments(small_params(**changes), 3, 1e-3, steps, tmp_path)

    return make


def test_our_own_words_become_trainers(made):
    found = made(
        train__warmup=0.1, train__scheduler="constant", train__patience=2, train__weight_decay=0.2
    )
    assert (found.learning_rate, found.seed, found.warmup_steps) == (1e-3, 3, 10)
    assert found.lr_scheduler_type == "constant_with_warmup" and found.weight_decay == 0.2
    assert found.load_best_model_at_end and found.metric_for_best_model == "log_loss"
    assert not made(train__patience=None).load_best_model_at_end


def test_any_further_argument_is_passed_on(made):
    more = {"optim": "adafactor", "adam_beta2": 0.95, "logging_steps": 7, "torch_compile": False}
    found = made(train__arguments=more)
    assert found.optim == "adafactor" and found.adam_beta2 == 0.95 and found.logging_steps == 7


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("optimm", "has no such argument; did you mean optim"),
        ("gradient_checkpoint", "did you mean gradient_checkpointing"),
        ("zzz", "has no such argument."),
        ("learning_rate", "use train.lr"),
        ("per_device_train_batch_size", "use train.batch_size"),
        ("output_dir", "the pipeline sets it itself: checkpoints are in work/"),
        ("label_smoothing_factor", "the pipeline sets it itself: the loss is the mean"),
        ("bf16", "use train.precision"),
    ],
)
def test_an_unknown_one_and_one_of_the_pipeline_are_refused(made, name, says):
    with pytest.raises(UserError, match=f"^train.arguments.{name}: .*{says}"):
        made(train__arguments={name: 1})


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        ({"logging_steps": True}, "True: Trainer expects float"),
        ({"adam_beta2": "0.9"}, "'0.9': Trainer expects float"),
        ({"dataloader_num_workers": 1.5}, "1.5: Trainer expects int"),
        ({"neftune_noise_alpha": False}, "False: Trainer expects float | None"),
        ({"torch_compile": "yes"}, "'yes': Trainer expects bool"),
        ({"optim": 3}, "3: Trainer expects .*OptimizerNames | str"),
    ],
)
def test_a_value_of_another_type_is_refused(made, bad, expected):
    with pytest.raises(UserError, match=f"^train.arguments.{next(iter(bad))} is {expected}"):
        made(train__arguments=bad)


def test_a_value_of_the_type_passes(made):
    named = {"logging_strategy": "epoch", "report_to": ["none"], "adam_beta1": 0, "debug": ""}
    assert made(train__arguments=named).logging_strategy == "epoch"


@pytest.mark.filterwarnings("error::FutureWarning")
@pytest.mark.parametrize("name", ["activation_checkpointing", "gradient_checkpointing"])
def test_checkpointing_of_activations_has_two_names(made, name):
    found = made(train__arguments={name: True, f"{name}_kwargs": {"use_reentrant": False}})
    assert found.activation_checkpointing and found.activation_checkpointing_kwargs
    assert not made(train__arguments={name: False}).activation_checkpointing


@pytest.mark.parametrize("bad", [{"optim": "nothing"}, {"report_to": ["nothing"]}])
def test_a_value_that_trainer_refuses_is_one_line(made, bad):
    with pytest.raises(UserError, match="^train.arguments: .*nothing") as refused:
        made(train__arguments=bad)
    assert len(str(refused.value).splitlines()) == 1


def test_every_argument_that_the_pipeline_sets_is_trainers():
    known = {field.name for field in fields(TrainingArguments)}
    assert {name for names in arguments._OWNED for name in names.split()} <= known
