"""What stops a training, and how it says so."""

import math
import shutil

import pytest
import torch

from colocate import fitting, models, training_data
from colocate.errors import InputError
from colocate.training_data import Settings
from tiny import make_tokenizer
from toy_training import arm, run

pytestmark = pytest.mark.usefixtures("one_thread")


def test_numbers_that_are_none_stop_the_run_with_step_examples_and_rates(tiny_llama, mixture, tmp_path):
    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(tiny_llama, tmp_path / "broken")
    tensors = load_file(broken / "model.safetensors")
    tensors["model.layers.1.mlp.down_proj.weight"][3, 5] = math.nan
    save_file(tensors, broken / "model.safetensors", {"format": "pt"})
    says = r"diverged in step 1 of 7: loss nan .*lr_lora 0.005, lr_garfa 0.01, examples train-\d+, train-\d+"
    with pytest.raises(fitting.TrainingError, match=says):
        run(broken, mixture, tmp_path)


@pytest.mark.parametrize(("base", "loss", "stops"), [(1.0, 3.2, 0), (1.0, 3.4, 1), (5.0, 7.4, 0), (5.0, 7.6, 1)])
def test_a_loss_half_way_to_a_uniform_guess_stops_the_run(tiny_llama, base, loss, stops):
    """With 259 tokens a uniform guess costs 5.56 nat: half-way from 1 is 3.28; half more than 5 is 7.5."""
    model = models.load_model(tiny_llama, "float32", "cpu")
    history = [{"loss": base}, {"loss": loss, "step": 4, "grad_norm": 1.0, "lr_lora": 0.1}]
    if stops:
        with pytest.raises(fitting.TrainingError, match="diverged in step 4 of 9"):
            fitting._check_progress(model, history, [], 9)
    else:
        fitting._check_progress(model, history, [], 9)


def test_a_tensor_without_gradient_is_named():
    trained = {"layer.lora_A": torch.nn.Parameter(torch.ones(2)), "layer.lora_B": torch.nn.Parameter(torch.ones(2))}
    trained["layer.lora_A"].grad = torch.zeros(2)
    with pytest.raises(fitting.TrainingError, match=r"layer.lora_B has no gradient"):
        fitting._check_gradients(trained)
    trained["layer.lora_B"].grad = torch.zeros(2)
    with pytest.raises(fitting.TrainingError, match=r"layer.lora_B has a gradient of zeros"):
        fitting._check_gradients(trained)
    trained["layer.lora_B"].grad = torch.ones(2)
    fitting._check_gradients(trained)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_out_of_memory_says_what_to_lower(error):
    with pytest.raises(fitting.TrainingError, match="lower training.max_length"), fitting._memory_hint(Settings()):
        raise error
    with pytest.raises(RuntimeError, match="something else"), fitting._memory_hint(Settings()):
        raise RuntimeError("something else")


def test_an_arm_of_another_model_is_refused(tiny_llama, mixture, tmp_path):
    with pytest.raises(InputError, match="arm toy: n_trainable is 7, this model has"):
        run(tiny_llama, mixture, tmp_path, resolved=arm(tiny_llama, n_trainable=7))


def test_examples_that_are_too_long_are_left_out_and_counted(tiny_llama, mixture, tmp_path):
    lengths = [len(e.ids) for e in training_data.read_examples(mixture["train"], make_tokenizer(), Settings())[0]]
    limit = sorted(lengths)[12]
    _, record = run(tiny_llama, mixture, tmp_path, max_length=limit, max_tokens=400)
    assert record["left_out"]["train"] == sum(length > limit for length in lengths) > 0
    with pytest.raises(InputError, match="all 24 examples are longer than training.max_length 20"):
        run(tiny_llama, mixture, tmp_path, "short", max_length=20)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"max_tokens": 0}, "training.max_tokens: found 0, allowed: whole numbers from 1"),
        ({"epochs": 1.5}, "training.epochs: found 1.5"),
        ({"schedule": "step"}, "training.schedule: found 'step', allowed: cosine, linear, constant"),
        ({"warmup": 2}, "training.warmup: found 2, allowed: 0 to 1"),
        ({"clip": float("nan")}, "training.clip: found nan"),
        ({"lr": 1}, "training.lr: unknown key, allowed: attention, chat_template, check"),
    ],
)
def test_bad_settings_are_named(settings, says):
    with pytest.raises(InputError, match=says):
        Settings.of(settings)
