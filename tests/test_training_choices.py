"""What is chosen by held-out loss: learning rates of an arm, and layers; LoRA+."""

import pandas as pd
import pytest
import torch

from colocate import fitting, training
from colocate.budget import AdapterSpec
from colocate.errors import InputError
from toy_training import SETTINGS, TARGETS, arm, load, run

pytestmark = pytest.mark.usefixtures("one_thread")

LORA = {"rank": 4, "alpha": 8, "dropout": 0.0, "targets": list(TARGETS)}


def validated(out):
    return pd.read_csv(out / "training_log.csv").query("split == 'validate'")["loss"]


@pytest.mark.parametrize("layers", [(1,), (0, 2, 3)])
def test_the_loss_of_some_layers_is_that_of_an_arm_with_these_layers(tiny_llama, mixture, tmp_path, layers):
    settings = SETTINGS | {"lora": LORA, "lr_lora": 5e-3}
    without_test = {split: mixture[split] for split in ("train", "validate")}
    found = training.subset_loss(tiny_llama, layers, without_test, settings, 3, "float32", "cpu")
    out, _ = run(tiny_llama, mixture, tmp_path, resolved=arm(tiny_llama, layers, ()), seed=3)
    assert found["loss_base"] == pytest.approx(validated(out).iloc[0])
    assert found["loss"] == pytest.approx(validated(out).iloc[-1])
    assert found["loss"] < found["loss_base"]
    assert (found["layers"], found["seed"], found["n"]) == (list(layers), 3, 6)
    with pytest.raises(InputError, match="training.lora: missing"):
        training.subset_loss(tiny_llama, layers, mixture, SETTINGS, 3, "float32", "cpu")


def tune(folder, mixture, tmp_path, **changes):
    options = {"seed": 0, "dtype": "float32", "device": "cpu", "scratch": tmp_path}
    return training.tune(folder, arm(folder, **changes), mixture, SETTINGS, **options)


def test_tuning_measures_validate_and_never_reads_test(tiny_llama, mixture, tmp_path):
    without_test = mixture | {"test": tmp_path / "nowhere.jsonl"}
    found = tune(tiny_llama, without_test, tmp_path)
    out, record = run(tiny_llama, mixture, tmp_path)
    assert (found["lr_lora"], found["lr_garfa"]) == (5e-3, 1e-2)
    assert found["loss_base"] == pytest.approx(validated(out).iloc[0], abs=1e-12)
    assert found["loss"] == pytest.approx(validated(out).iloc[-1], abs=1e-12)
    assert (found["n"], found["tokens"]) == (6, record["tokens"])
    assert "why" not in found


def test_rates_that_diverge_are_a_result(tiny_llama, mixture, tmp_path):
    found = tune(tiny_llama, mixture, tmp_path, lr_lora=1e38)
    assert found["loss"] is None
    assert "training diverged in step" in found["why"]
    assert found["loss_base"] > 0
    assert found["lr_lora"] == 1e38


def test_a_broken_model_is_no_learning_rate_s_fault(copy, mixture, tmp_path):
    from safetensors.torch import load_file, save_file

    tensors = load_file(copy / "model.safetensors")
    tensors["model.layers.1.mlp.down_proj.weight"][3, 5] = float("nan")
    save_file(tensors, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(fitting.Diverged, match="diverged in step 1"):
        tune(copy, mixture, tmp_path)


def test_lora_plus_multiplies_the_rate_of_b(tiny_llama, mixture, tmp_path):
    """Adam's first step is the learning rate times the gradient's sign: B starts at 0, so that it shows its rate."""
    from safetensors.torch import load_file

    settings = {"max_tokens": 200, "schedule": "constant", "warmup": 0.0, "clip": 1e9}
    for number, (resolved, ratio) in enumerate([({"lora_plus_ratio": 4.0}, 4), ({}, 1)]):
        out, record = run(tiny_llama, mixture, tmp_path, str(number), arm(tiny_llama, **resolved), **settings)
        assert record["steps"] == 1
        tensors = load_file(out / "adapter_model.safetensors")
        found = torch.cat([tensor.abs().flatten() for name, tensor in tensors.items() if "lora_B" in name])
        torch.testing.assert_close(found, torch.full_like(found, ratio * 5e-3), rtol=1e-2, atol=1e-6)
        log = pd.read_csv(out / "training_log.csv").query("split == 'train'")
        assert log["lr_lora"].tolist() == [5e-3]


def test_temperatures_have_the_rate_of_garfa(tiny_llama, mixture):
    model, one = load(tiny_llama, mixture, AdapterSpec((1,), (), 4, 8, TARGETS, temperature_layers=(2,)))
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimizer, rates = fitting._optimizer(trained, one)
    assert rates == {"lora": 5e-3, "garfa": 1e-2}
    assert [group["full_lr"] for group in optimizer.param_groups] == [5e-3, 1e-2]
    assert [parameter.shape for parameter in optimizer.param_groups[1]["params"]] == [(2,)]
