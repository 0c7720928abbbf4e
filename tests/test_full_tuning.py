"""Full fine-tuning: every weight is trained, saved, loaded, compared with its base, merged; bfloat16 loses no step."""

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

from colocate import adapters, checkpoints, config, full_tuning, layer_sets, merge, models, profiles, training
from colocate.errors import InputError
from colocate.geometry import read_geometry
from colocate.profiles.compared import Compared
from colocate.training_data import training_flops
from conftest import ROOT
from tiny import make_model
from toy_training import SETTINGS, reference_losses, run

pytestmark = pytest.mark.usefixtures("one_thread")


def full_arm(folder, **changes):
    entry = {"full": True, "lr_full": 1e-3}
    return layer_sets.resolve("full_sft", 0, entry, None, {}, {}, read_geometry(folder), {}) | changes


@pytest.fixture(scope="module")
def trained(tiny_llama, mixture, tmp_path_factory):
    return run(tiny_llama, mixture, tmp_path_factory.mktemp("full"), resolved=full_arm(tiny_llama))


def test_the_resolved_arm_trains_every_weight_and_adapts_no_layer(tiny_llama):
    arm = full_arm(tiny_llama)
    model = models.load_model(tiny_llama, "float32", "cpu")
    assert arm["n_trainable"] == sum(parameter.numel() for parameter in model.parameters())
    assert [arm[f"{part}_layers"] for part in layer_sets.PARTS] == [[], [], []]
    assert arm["lr_lora"] == 1e-3


def test_every_weight_moves_and_the_held_out_loss_falls(tiny_llama, trained):
    out, record = trained
    before, after = models.load_model(tiny_llama, "float32", "cpu").state_dict(), load_file(out / full_tuning.WEIGHTS)
    assert "lm_head.weight" not in after  # tied to the embedding: once
    assert all(not torch.equal(before[name], value) for name, value in after.items())
    losses = pd.read_parquet(out / "heldout.parquet").groupby(["split", "step"])["loss"].mean()
    assert losses["test"].iloc[-1] < losses["test"].iloc[0] - 0.1
    assert record["flops"] > 0


def test_losses_are_those_of_the_stock_model_before_and_after(tiny_llama, mixture, trained):
    out, _ = trained
    found = pd.read_parquet(out / "heldout.parquet")
    base = models.load_model(tiny_llama, "float32", "cpu")
    steps = {0: base, found["step"].max(): adapters.load(models.load_model(tiny_llama, "float32", "cpu"), out)}
    for step, model in steps.items():
        expected = reference_losses(model, mixture["test"])
        rows = found[(found["split"] == "test") & (found["step"] == step)]
        assert dict(zip(rows["item"], rows["loss"], strict=True)) == pytest.approx(expected, rel=1e-5)


def test_the_folder_is_loaded_by_the_loader_of_arms_and_refused_by_peft(tiny_llama, trained):
    from peft import PeftModel

    out, _ = trained
    assert full_tuning.is_full(out)
    assert adapters.read_alphas(out).empty
    loaded = adapters.load(models.load_model(tiny_llama, "float32", "cpu"), out)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    with pytest.raises(Exception, match="colocate.adapters.load"):
        PeftModel.from_pretrained(models.load_model(tiny_llama, "float32", "cpu"), str(out))


def test_weights_of_another_model_and_damaged_files_are_refused(tiny_llama, trained, tmp_path):
    out, _ = trained
    other = make_model(tmp_path / "other", intermediate_size=112)
    with pytest.raises(InputError, match=r"another base model: .*down_proj.weight: the fine-tune's \(64, 96\)"):
        adapters.load(models.load_model(other, "float32", "cpu"), out)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / full_tuning.CONFIG).write_bytes((out / full_tuning.CONFIG).read_bytes())
    with pytest.raises(InputError, match="no such file"):
        adapters.load(models.load_model(tiny_llama, "float32", "cpu"), broken)
    (broken / full_tuning.WEIGHTS).write_bytes((out / full_tuning.WEIGHTS).read_bytes()[:200])
    with pytest.raises(InputError, match="damaged"):
        adapters.load(models.load_model(tiny_llama, "float32", "cpu"), broken)


def test_arm_profiles_compare_it_with_its_base(tiny_llama, trained):
    def load_base():
        return models.load_model(tiny_llama, "float32", "cpu")

    arm = Compared.of_arm(adapters.load(load_base(), trained[0]), load_base)
    found = profiles.compute("weight_change", arm, None, {"metric": "weight_change"}, {}, lambda *_: None).profile
    assert (found["value"] > 1e-4).all()
    layer = models.decoder_layers(arm.model)[1]
    base = models.decoder_layers(arm.other)[1]
    pairs = [(a, b) for a, b in zip(layer.modules(), base.modules(), strict=True) if isinstance(a, torch.nn.Linear)]
    moved = sum(float((a.weight.double() - b.weight.double()).detach().norm()) ** 2 for a, b in pairs)
    whole = sum(float(b.weight.double().norm()) ** 2 for _, b in pairs)
    assert found["value"][1] == pytest.approx((moved / whole) ** 0.5, rel=1e-6)


def test_it_merges_into_an_ordinary_model(tiny_llama, trained, tmp_path):
    from transformers import AutoModelForCausalLM

    merge.merge(tiny_llama, trained[0], tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").state_dict()
    for name, value in load_file(trained[0] / full_tuning.WEIGHTS).items():
        assert torch.equal(merged[name], value)


def test_small_steps_are_not_lost_in_bfloat16(tiny_llama):
    """At 1e-4 of a weight a bfloat16 step rounds to nothing; the float32 copy sums the steps until they show."""
    model = full_tuning.unfreeze(models.load_model(tiny_llama, "bfloat16", "cpu"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with full_tuning.in_float32(model) as copies:
        assert {copy.dtype for copy in copies.values()} == {torch.float32}
        optimizer = torch.optim.SGD(copies.values(), lr=1.0)
        for _ in range(400):
            for name, copy in copies.items():
                copy.grad = before[name].float() * 1e-4
            optimizer.step()
            full_tuning.write_back(model, copies)
    name = "model.layers.0.mlp.up_proj.weight"
    ratio = (model.state_dict()[name].float() / before[name].float()).mean()
    assert ratio == pytest.approx(1 - 400e-4, abs=1e-3)
    lost = before[name] - (before[name].float() * 1e-4).to(torch.bfloat16)
    assert torch.equal(lost, before[name])


def test_gradients_are_summed_in_float32_and_leave_the_model_none(tiny_llama):
    ids = torch.tensor([[5, 6, 7, 8, 9, 10]])
    half = full_tuning.unfreeze(models.load_model(tiny_llama, "bfloat16", "cpu"))
    with full_tuning.in_float32(half) as copies:
        for _ in range(3):
            half(input_ids=ids, labels=ids).loss.backward()
        assert all(parameter.grad is None for parameter in half.parameters())
        tripled = {name: copy.grad.clone() for name, copy in copies.items()}
    half(input_ids=ids, labels=ids).loss.backward()  # outside the block the model has its gradients again
    name = "model.layers.1.mlp.down_proj.weight"
    once = dict(half.named_parameters())[name].grad.float()
    assert torch.equal(tripled[name], once + once + once)


def test_an_interrupted_run_in_bfloat16_ends_as_an_uninterrupted_one(tiny_llama, mixture, tmp_path):
    def train(name, stop_after=None):
        done = []

        def progress(share, note=""):
            done.append(share)
            if stop_after and len(done) == stop_after:
                raise KeyboardInterrupt

        out, scratch = tmp_path / name / "out", tmp_path / name / "scratch"
        for folder in (out, scratch):
            folder.mkdir(parents=True, exist_ok=True)
        options = {"seed": 0, "dtype": "bfloat16", "device": "cpu", "out": out, "scratch": scratch}
        training.train(tiny_llama, full_arm(tiny_llama), mixture, SETTINGS, progress=progress, **options)
        return (out / full_tuning.WEIGHTS).read_bytes()

    with pytest.raises(KeyboardInterrupt):
        train("stopped", stop_after=5)
    assert (tmp_path / "stopped/scratch" / checkpoints.NAME).is_file()
    assert train("stopped") == train("whole")


def test_only_dtypes_that_can_be_trained(tiny_llama, trained):
    with pytest.raises(InputError, match="found weights in float16; allowed dtypes: bfloat16, float32"):
        full_tuning.unfreeze(models.load_model(tiny_llama, "float16", "cpu"))


@pytest.mark.four_bit
@pytest.mark.slow
def test_not_into_4_bit_weights(tiny_llama, trained):
    with pytest.raises(InputError, match="full fine-tuning: found weights in .*uint8"):
        full_tuning.unfreeze(models.load_model(tiny_llama, "nf4", "cpu"))
    with pytest.raises(InputError, match="cannot be put into 4-bit weights"):
        adapters.load(models.load_model(tiny_llama, "nf4", "cpu"), trained[0])


def test_its_operations_are_those_of_all_layers_with_weight_gradients(tiny_llama):
    geometry = read_geometry(tiny_llama)
    weights = sum(out * into for layer in geometry["linear_shapes"].values() for out, into in layer.values())
    heads = geometry["n_heads"] * geometry["head_dim"] * geometry["n_layers"]
    expected = 10 * 6 * weights + 55 * 12 * heads + 4 * 6 * geometry["vocab"] * geometry["hidden"]
    assert training_flops(geometry, None, [10], 4) == expected


def test_evaluation_takes_it_as_any_arm(tiny_llama, trained):
    from colocate import evaluation

    settings = {"seed": 1, "batch_size": 4, "batch_tokens": 4096, "sandbox": "auto", "chat_template": "auto"}
    task = {"task": "mini_arc", "source": "builtin", "limit": 4}
    base, arm = (
        evaluation.evaluate(tiny_llama, folder, "mini_arc", task, settings, dtype="float32", device="cpu")[1]
        for folder in (None, trained[0])
    )
    assert (base["gold_logprob"] != arm["gold_logprob"]).all()


def test_a_config_says_what_a_full_arm_may_have():
    def complete(arm):
        study = yaml.safe_load((ROOT / "config/config.yaml").read_text())
        study["arms"]["full_sft"] = arm
        return config.complete(study)

    assert complete({"full": True, "lr_full": 1e-5, "seeds": [0]})["arms"]["full_sft"]["seeds"] == [0]
    with pytest.raises(InputError, match=r"arms.full_sft: lr_full is missing; add lr_full"):
        complete({"full": True})
    with pytest.raises(InputError, match=r"arms.full_sft: found \['lora'\]"):
        complete({"full": True, "lr_full": 1e-5, "lora": "sensitive"})
    with pytest.raises(InputError, match=r"arms.full_sft: full is missing; add full: true"):
        complete({"lora": "sensitive", "lr_full": 1e-5})
