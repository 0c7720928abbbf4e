"""One PEFT adapter for LoRA, GARFA and temperatures: ranks, dtypes, files, plain PEFT, refusals.

Every family: test_families.py.
"""

import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from colocate.adapters import OWN_TYPE, adapt, load, read_alphas, read_temperatures, save
from colocate.budget import VARIANTS, count_parameters
from colocate.errors import InputError
from colocate.geometry import read_geometry
from colocate.rope import rope_layers, rope_scaled
from families import KV_HEADS, LAYERS, attentions, build, logits, shake, some_ids, spec_for, trainable

COMBINATIONS = {
    "both, same layers": {"lora": (0, 2), "garfa": (0, 2)},
    "both, different layers": {"lora": (1, 3), "garfa": (0, 2)},
    "LoRA alone": {"lora": (1, 3), "garfa": ()},
    "DoRA alone": {"lora": (1, 3), "garfa": (), "variant": "dora"},
    "rsLoRA alone": {"lora": (1, 3), "garfa": (), "variant": "rslora"},
    "GARFA alone": {"lora": (), "garfa": (1, 2)},
    "temperatures alone": {"lora": (), "garfa": (), "temperature_layers": (1, 2)},
    "all three": {"lora": (1, 3), "garfa": (0, 1), "temperature_layers": (1, 2)},
}


# --- invariants -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("combination", COMBINATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_combinations(combination, dtype, tmp_path):
    spec = spec_for("llama", **COMBINATIONS[combination])
    stock = logits(build("llama", dtype))
    model = adapt(build("llama", dtype), spec)
    assert torch.equal(logits(model), stock), "a new adapter changes nothing"
    assert {parameter.dtype for parameter in trainable(model).values()} == {torch.float32}
    assert model.get_input_embeddings().weight.dtype == dtype
    shake(model)
    save(model, tmp_path)
    assert torch.equal(logits(load(build("llama", dtype), tmp_path)), logits(model))
    with model.disable_adapter():
        assert torch.equal(logits(model), stock)
    for read, column, layers, child in (
        (read_alphas, "alpha", spec.garfa_layers, "rope_scale"),
        (read_temperatures, "temperature", spec.temperature_layers, "logit_scale"),
    ):
        table = read(tmp_path)
        assert list(table.columns) == ["layer", "kv_head", column]
        assert list(zip(table.layer, table.kv_head, strict=True)) == [(i, k) for i in layers for k in range(KV_HEADS)]
        for row in table.itertuples():
            (logarithm,) = getattr(attentions(model)[row.layer], child).modules_to_save["default"].parameters()
            assert getattr(row, column) == pytest.approx(np.exp(logarithm[row.kv_head].item()), rel=1e-12)


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


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ["llama", "llama_mqa", "phi3", "starcoder2", "gemma3"])
def test_parameter_count_agrees_with_peft(name, variant, tmp_path):
    build(name).save_pretrained(tmp_path)
    geometry = read_geometry(tmp_path)
    spec = spec_for(name, (1, 2), (0, 1, 3), rank={1: 3, 2: 7}, temperature_layers=(2, 3), variant=variant)
    counted = sum(parameter.numel() for parameter in trainable(adapt(build(name), spec)).values())
    assert count_parameters(geometry["linear_shapes"], geometry["n_kv_heads"], spec) == counted


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_compute_what_their_papers_say(variant):
    """o_proj of one layer in float64: W x + scale B A x, rows brought to their magnitude for DoRA."""
    spec = spec_for("llama", (1,), (), rank=4, alpha=6, targets=("o_proj",), variant=variant)
    model = adapt(build("llama"), spec)
    shake(model)
    module = attentions(model)[1].o_proj
    w, a, b = (
        part.weight.detach().double() for part in (module.base_layer, module.lora_A.default, module.lora_B.default)
    )
    merged = w + 6 / (2 if variant == "rslora" else 4) * b @ a
    if variant == "dora":
        magnitude = module.lora_magnitude_vector["default"].weight.detach().double()
        merged = magnitude.unsqueeze(1) * merged / merged.norm(dim=1, keepdim=True)
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(module(x).double(), x.double() @ merged.T, rtol=1e-5, atol=1e-5)


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

PLAIN_PEFT = """
import sys, torch
torch.set_num_threads(1)
from peft import PeftModel
from transformers import AutoModelForCausalLM
folder, found = sys.argv[1], {}
def base():
    return AutoModelForCausalLM.from_pretrained(f"{folder}/base", attn_implementation="eager").eval()
for name in ("lora", "dora", "rslora"):
    model = PeftModel.from_pretrained(base(), f"{folder}/{name}")
    with torch.no_grad():
        found[name] = model(input_ids=torch.arange(3, 23)[None]).logits
for name in ("garfa", "temperature"):
    for load in (PeftModel.from_pretrained, lambda model, path: model.load_adapter(path)):
        try:
            load(base(), f"{folder}/{name}")
            found[name] = "no error"
        except Exception as error:
            found.setdefault(name, []).append(str(error))
assert "colocate" not in sys.modules
torch.save(found, f"{folder}/found.pt")
"""


def test_a_process_without_colocate_loads_lora_arms_and_refuses_the_others(tmp_path):
    build("llama").save_pretrained(tmp_path / "base")
    specs = {variant: {"garfa": (), "rank": {1: 2, 3: 5}, "variant": variant} for variant in VARIANTS}
    specs |= {"garfa": {}, "temperature": {"garfa": (), "temperature_layers": (0,)}}
    expected = {}
    for name, settings in specs.items():
        model = adapt(build("llama"), spec_for("llama", **settings))
        shake(model)
        save(model, tmp_path / name)
        with torch.no_grad():
            expected[name] = model(input_ids=torch.arange(3, 23)[None]).logits
    subprocess.run([sys.executable, "-c", PLAIN_PEFT, str(tmp_path)], check=True, cwd=tmp_path)
    found = torch.load(tmp_path / "found.pt")
    for variant in VARIANTS:
        assert torch.equal(found[variant], expected[variant])
    for name in ("garfa", "temperature"):
        assert len(found[name]) == 2
        assert all("load this adapter with colocate.adapters.load" in message for message in found[name])


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
    ids=["LoRA missing", "alphas missing", "LoRA too many", "shapes", "layer out of range", "alphas wrong"],
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
        (config, b"[]", "peft_type: found None, allowed: 'LORA'"),
        (config, b"[1, 2]", "adapter_config.json: damaged"),
        (config, whole[0].replace(OWN_TYPE.encode(), b"LORA"), None),  # as from elsewhere: nothing is lost
        (config, whole[0].replace(b'"rope_scale"', b'"logit_scale"'), "disagree on whether this adapter has GARFA"),
    ):
        path.write_bytes(content)
        if message is None:
            load(build("llama"), tmp_path)
        else:
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
