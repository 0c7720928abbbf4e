"""One PEFT adapter for LoRA and GARFA: invariants over families and combinations, files, refusals."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from peft import PeftModel

from colocate.adapters import AdapterSpec, adapt, load, read_alphas, save
from colocate.budget import count_parameters
from colocate.errors import InputError
from colocate.geometry import read_geometry
from colocate.rope import rope_layers, rope_scaled
from test_rope import FAMILIES, KV_HEADS, LAYERS, attentions, build, some_ids

TARGETS = {"phi3": ("qkv_proj", "o_proj", "down_proj"), "starcoder2": ("q_proj", "o_proj", "c_fc")}
COMBINATIONS = {
    "both, same layers": ((0, 2), (0, 2)),
    "both, different layers": ((1, 3), (0, 2)),
    "LoRA alone": ((1, 3), ()),
    "GARFA alone": ((), (1, 2)),
}
SOME = [name for name in FAMILIES if "_" not in name or name in {"gpt_oss", "ernie4_5"}]


def spec_for(name: str, lora=(1, 3), garfa=(0, 2), **settings) -> AdapterSpec:
    targets = TARGETS.get(name, ("q_proj", "o_proj"))
    return AdapterSpec(lora, garfa, **({"rank": 4, "alpha": 8, "targets": targets} | settings))


def trainable(model) -> dict[str, torch.Tensor]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def shake(model, seed: int = 0) -> None:
    """Give every adapter tensor values as after some training."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in trainable(model).values():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)


@torch.no_grad()
def logits(model) -> torch.Tensor:
    return model(input_ids=some_ids()).logits


# --- invariants -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SOME)
def test_adapt_train_save_load_disable(name, tmp_path):
    spec = spec_for(name)
    stock = logits(build(name))
    model = adapt(build(name), spec)
    assert torch.equal(logits(model), stock), "a new adapter changes nothing"
    shake(model)
    adapted = logits(model)
    assert not torch.allclose(adapted, stock, atol=1e-2)
    with model.disable_adapter():
        assert torch.equal(logits(model), stock)
    assert torch.equal(logits(model), adapted)
    save(model, tmp_path)
    loaded = load(build(name), tmp_path)
    assert torch.equal(logits(loaded), adapted)
    assert not trainable(loaded)
    assert not loaded.training
    with loaded.disable_adapter():
        assert torch.equal(logits(loaded), stock)


@pytest.mark.parametrize("name", SOME)
def test_every_trainable_tensor_gets_a_gradient_and_nothing_else(name):
    spec = spec_for(name)
    model = adapt(build(name), spec)
    shake(model)
    model(input_ids=some_ids(), use_cache=False).logits.square().mean().backward()
    expected = {f".{layer}.self_attn.rope_scale.modules_to_save.default.log_alpha" for layer in spec.garfa_layers}
    for layer in spec.lora_layers:
        for target in spec.targets:
            block = "self_attn" if target in {"q_proj", "qkv_proj", "o_proj"} else "mlp"
            expected |= {f".{layer}.{block}.{target}.lora_{matrix}.default.weight" for matrix in "AB"}
    assert {key.removeprefix("base_model.model.model.layers") for key in trainable(model)} == expected
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad.abs().max() > 0, key
        else:
            assert parameter.grad is None, key


@pytest.mark.parametrize("combination", COMBINATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_combinations_of_lora_and_garfa(combination, dtype, tmp_path):
    lora, garfa = COMBINATIONS[combination]
    stock = logits(build("llama", dtype))
    model = adapt(build("llama", dtype), spec_for("llama", lora, garfa))
    assert torch.equal(logits(model), stock)
    assert {parameter.dtype for parameter in trainable(model).values()} == {torch.float32}
    assert model.get_input_embeddings().weight.dtype == dtype
    shake(model)
    save(model, tmp_path)
    assert torch.equal(logits(load(build("llama", dtype), tmp_path)), logits(model))
    with model.disable_adapter():
        assert torch.equal(logits(model), stock)
    alphas = read_alphas(tmp_path)
    assert list(alphas.columns) == ["layer", "kv_head", "alpha"]
    assert list(zip(alphas.layer, alphas.kv_head, strict=True)) == [(i, k) for i in garfa for k in range(KV_HEADS)]
    for row in alphas.itertuples():
        log_alpha = attentions(model)[row.layer].rope_scale.modules_to_save["default"].log_alpha[row.kv_head]
        assert row.alpha == pytest.approx(np.exp(log_alpha.item()), rel=1e-12)


def test_ranks_and_scales_by_layer(tmp_path):
    spec = spec_for("llama", (0, 1, 3), (), rank={0: 2, 1: 5, 3: 2}, alpha={0: 4, 1: 10, 3: 3})
    model = adapt(build("llama"), spec)
    for candidate in (model, None):
        if candidate is None:
            save(model, tmp_path)
            candidate = load(build("llama"), tmp_path)
        found = {layer: attentions(candidate)[layer].o_proj for layer in spec.lora_layers}
        assert {layer: module.r["default"] for layer, module in found.items()} == spec.rank
        assert {layer: module.scaling["default"] for layer, module in found.items()} == {0: 2.0, 1: 2.0, 3: 1.5}


@pytest.mark.parametrize("layers", [(1,), (0, 1, 2, 4, 11), tuple(range(12))], ids=str)
def test_of_many_layers_and_targets_exactly_the_chosen_are_adapted(layers, tmp_path):
    """PEFT shortens lists of 20 names and more; layer 1 is not layer 11."""
    targets = ("q_proj", "k_proj", "v_proj", "o_proj", "down_proj")
    model = adapt(build("llama", num_hidden_layers=12), spec_for("llama", layers, (11,), rank=2, targets=targets))
    adapted = {tuple(key.split(".")[4:7:2]) for key in trainable(model) if "lora_A" in key}
    assert adapted == {(str(layer), target) for layer in layers for target in targets}
    shake(model)
    save(model, tmp_path)
    assert torch.equal(logits(load(build("llama", num_hidden_layers=12), tmp_path)), logits(model))


def test_parameter_count_agrees_with_peft(tmp_path):
    build("llama").save_pretrained(tmp_path)
    geometry = read_geometry(tmp_path)
    spec = spec_for("llama", (1, 2), (0, 1, 3), rank={1: 3, 2: 7}, targets=("q_proj", "k_proj", "down_proj"))
    counted = sum(parameter.numel() for parameter in trainable(adapt(build("llama"), spec)).values())
    assert count_parameters(geometry["linear_shapes"], geometry["n_kv_heads"], spec) == counted


def test_dropout_acts_in_training_only():
    model = adapt(build("llama"), spec_for("llama", dropout=0.5))
    shake(model)
    assert torch.equal(logits(model.eval()), logits(model))
    assert not torch.equal(logits(model.train()), logits(model))


def test_generation_with_an_adapter_uses_the_cache_as_a_full_forward_would(tmp_path):
    model = adapt(build("qwen3", attention="sdpa"), spec_for("qwen3"))
    shake(model)
    model.eval()
    ids = some_ids(1)
    generated = model.generate(input_ids=ids, max_new_tokens=6, do_sample=False)
    for _ in range(6):
        with torch.no_grad():
            ids = torch.cat((ids, model(input_ids=ids, use_cache=False).logits[:, -1:].argmax(-1)), dim=1)
    assert torch.equal(generated, ids)


def test_a_perturbation_acts_on_top_of_an_adapter():
    model = adapt(build("llama"), spec_for("llama", (1,), (2,)))
    adapted = logits(model)
    assert rope_layers(model) == list(range(LAYERS))
    with rope_scaled(model, 2, 0.4):
        perturbed = logits(model)
    assert torch.equal(logits(model), adapted)
    attentions(model)[2].rope_scale.modules_to_save["default"].log_alpha.data.fill_(0.4)
    torch.testing.assert_close(perturbed, logits(model), rtol=0, atol=1e-5)
    assert not torch.allclose(perturbed, adapted, atol=1e-3)


# --- files ------------------------------------------------------------------------------------------------------------

SCRIPT = """
import sys, torch
torch.set_num_threads(1)
from transformers import AutoModelForCausalLM
from colocate.adapters import load, save
base, adapter, again, out = sys.argv[1:]
model = load(AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager"), adapter)
with torch.no_grad():
    torch.save(model(input_ids=torch.arange(3, 23)[None]).logits, out)
save(model, again, {"source": "path:base"})
"""


def test_a_fresh_process_gets_equal_logits_and_writes_equal_files(tmp_path):
    base = build("llama")
    base.save_pretrained(tmp_path / "base")
    model = adapt(base, spec_for("llama", rank={1: 2, 3: 4}))
    shake(model)
    save(model, tmp_path / "adapter", {"source": "path:base"})
    arguments = [str(tmp_path / name) for name in ("base", "adapter", "again", "logits.pt")]
    environment = os.environ | {"PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", SCRIPT, *arguments], check=True, env=environment)
    with torch.no_grad():
        expected = model(input_ids=torch.arange(3, 23)[None]).logits
    assert torch.equal(torch.load(tmp_path / "logits.pt"), expected)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "adapter" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert json.loads((tmp_path / "adapter/adapter_config.json").read_text())["base_model_name_or_path"] == "path:base"


def test_lora_alone_is_plain_peft(tmp_path):
    model = adapt(build("llama"), spec_for("llama", garfa=()))
    shake(model)
    save(model, tmp_path)
    assert torch.equal(logits(PeftModel.from_pretrained(build("llama"), tmp_path)), logits(model))


def test_loading_draws_no_random_numbers(tmp_path):
    save(adapt(build("llama"), spec_for("llama")), tmp_path)
    base = build("llama")
    state = torch.get_rng_state()
    load(base, tmp_path)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_bfloat16_copy_of_the_base_is_the_same_base(tmp_path):
    model = adapt(build("llama"), spec_for("llama"))
    shake(model)
    save(model, tmp_path)
    loaded = load(build("llama").to(torch.bfloat16), tmp_path)
    assert torch.allclose(logits(loaded).float(), logits(model), atol=0.3)


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("llama", {"lora": (1, LAYERS)}, r"layers \[4\] do not exist: this model has layers 0 to 3"),
        ("llama", {"garfa": (17,)}, r"layers \[17\] do not exist"),
        (
            "llama",
            {"targets": ("q_proj", "c_fc")},
            "layer 1 has 0 linear modules 'c_fc', expected 1; it has down_proj, ",
        ),
        ("mixtral", {"targets": ("gate_proj",)}, "layer 1 has 0 linear modules 'gate_proj'"),
        ("smollm3", {"garfa": (3,)}, "layer 3 has no rotary position encoding"),
    ],
)
def test_adapters_that_do_not_fit_the_model(name, settings, message):
    model, stock = build(name), logits(build(name))
    with pytest.raises(InputError, match=message):
        adapt(model, spec_for(name, **settings))
    assert torch.equal(logits(model), stock)
    adapt(model, spec_for(name))  # nothing was changed


def test_a_second_adapter_is_refused(tmp_path):
    model = adapt(build("llama"), spec_for("llama"))
    save(model, tmp_path)
    for call in (lambda: adapt(model, spec_for("llama")), lambda: load(model, tmp_path)):
        with pytest.raises(InputError, match="has an adapter already"):
            call()
    with pytest.raises(InputError, match="has an adapter already"):
        adapt(model.get_base_model(), spec_for("llama"))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: build("llama", hidden_size=128), "hidden: the adapter's 64, this model's 128"),
        (lambda: build("llama", num_hidden_layers=5), "n_layers: the adapter's 4, this model's 5"),
        (lambda: build("qwen3"), "model_type: the adapter's llama, this model's qwen3"),
        (lambda: nudged("model.embed_tokens.weight"), "another base model: embedding: the adapter's"),
        (lambda: nudged("model.layers.2.mlp.up_proj.weight"), "another base model: layers: the adapter's"),
    ],
)
def test_an_adapter_of_another_base_model_is_refused(other, message, tmp_path):
    save(adapt(build("llama"), spec_for("llama")), tmp_path)
    with pytest.raises(InputError, match=message):
        load(other(), tmp_path)


def nudged(name: str):
    model = build("llama")
    model.get_parameter(name).data.mul_(1.02)
    return model


def rewrite(folder, change) -> None:
    """Change the saved tensors and drop the metadata, as a file from elsewhere."""
    from safetensors.torch import load_file, save_file

    path = folder / "adapter_model.safetensors"
    save_file(change(load_file(path)), path)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: {key: value for key, value in tensors.items() if "layers.3.self_attn.o_proj.lora_B" not in key},
        lambda tensors: {key: value for key, value in tensors.items() if "rope_scale" not in key},
        lambda tensors: (
            tensors | {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": torch.zeros(4, 64)}
        ),
        lambda tensors: {key: value[:1].clone() for key, value in tensors.items()},
        lambda tensors: tensors | {"base_model.model.model.layers.9.self_attn.rope_scale.log_alpha": torch.zeros(2)},
        lambda tensors: tensors | {"base_model.model.model.layers.1.self_attn.rope_scale.log_alpha": torch.zeros(3)},
    ],
    ids=["LoRA missing", "alphas missing", "LoRA too many", "shapes", "layer out of range", "alphas too many"],
)
def test_tensors_that_do_not_fit_are_refused(change, tmp_path):
    save(adapt(build("llama"), spec_for("llama")), tmp_path)
    rewrite(tmp_path, change)
    with pytest.raises(InputError):
        load(build("llama"), tmp_path)


def test_damaged_and_missing_files(tmp_path):
    save(adapt(build("llama"), spec_for("llama")), tmp_path)
    config, weights = tmp_path / "adapter_config.json", tmp_path / "adapter_model.safetensors"
    whole = config.read_bytes(), weights.read_bytes()
    for path, content, message in (
        (weights, whole[1][:-40], "adapter_model.safetensors: damaged"),
        (weights, b"", "adapter_model.safetensors: damaged"),
        (config, whole[0][:100], "adapter_config.json: damaged"),
        (config, b'{"peft_type": "IA3"}', "peft_type: found 'IA3', allowed: 'LORA'"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            load(build("llama"), tmp_path)
        config.write_bytes(whole[0])
        weights.write_bytes(whole[1])
    for path in (weights, config):
        path.unlink()
        with pytest.raises(InputError, match=f"{path.name}: no such file"):
            load(build("llama"), tmp_path)
    with pytest.raises(InputError, match="no such file"):
        read_alphas(tmp_path)


def test_a_diverged_adapter_is_not_saved(tmp_path):
    model = adapt(build("llama"), spec_for("llama"))
    attentions(model)[0].rope_scale.modules_to_save["default"].log_alpha.data[1] = float("nan")
    with pytest.raises(InputError, match="log_alpha is not finite"):
        save(model, tmp_path)
    assert not list(tmp_path.iterdir())
