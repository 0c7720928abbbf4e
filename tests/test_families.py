"""The matrix: every family as a tiny random model, against its stock self and against the formula in float64."""

import json
import os
import subprocess
import sys

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from colocate.adapters import adapt, load, save
from colocate.errors import InputError
from colocate.rope import add_rope_scale, rope_layers
from colocate.temperature import add_logit_scale
from families import (
    EAGER_ONLY,
    FAMILIES,
    LAYERS,
    MOE,
    WITHOUT_ROPE,
    attentions,
    build,
    draw_alphas,
    draw_temperatures,
    logits,
    some_ids,
    spec_for,
    trainable,
)
from rope_reference import exact_logits

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
COMBINATIONS = {
    "LoRA": {"lora": (1, 3), "garfa": ()},
    "GARFA": {"lora": (), "garfa": (0, 2)},
    "both, same layers": {"lora": (0, 2), "garfa": (0, 2)},
    "both, different layers": {"lora": (1, 3), "garfa": (0, 2)},
    "temperatures": {"lora": (), "garfa": (), "temperature_layers": (0, 2)},
    "DoRA and temperatures": {"lora": (1, 2), "garfa": (), "temperature_layers": (2,), "variant": "dora"},
    "rsLoRA, GARFA and temperatures": {"garfa": (2,), "temperature_layers": (0, 2), "variant": "rslora"},
}

# --- the stock model at alpha = 1 and temperature 1 -------------------------------------------------------------------


@torch.no_grad()
def ways_of_running(model) -> dict[str, torch.Tensor]:
    """Logits of one forward, left padding, packed rows, KV cache step by step, generation with either kind of cache."""
    ids = some_ids()
    mask = torch.ones_like(ids)
    mask[0, :5] = 0
    restarting = torch.cat((torch.arange(8), torch.arange(12)))[None].expand(2, -1)
    steps = [model(ids[:, :16], use_cache=True)]
    for step in range(16, 20):
        steps.append(model(ids[:, step : step + 1], past_key_values=steps[-1].past_key_values))

    def generate(**options):
        options |= {"max_new_tokens": 5, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
        return torch.stack(model.generate(ids, attention_mask=mask, **options).logits)

    return {
        "forward": model(ids).logits,
        "left padding": model(ids, attention_mask=mask).logits,
        "packed": model(ids, position_ids=restarting, use_cache=False).logits,
        "cache": torch.cat([step.logits for step in steps], dim=1),
        "generation": generate(),
        "static cache": generate(cache_implementation="static"),
    }


@DTYPES
@pytest.mark.parametrize("name", FAMILIES)
def test_alpha_one_is_the_stock_model_bit_for_bit(name, dtype):
    for attention in ("eager",) if name in EAGER_ONLY else ("eager", "sdpa"):
        model = build(name, dtype, attention)
        stock = ways_of_running(model)
        for add in (add_rope_scale, add_logit_scale):
            add(model, rope_layers(model))
            for way, found in ways_of_running(model).items():
                assert torch.equal(found, stock[way]), f"{add.__name__}, {attention}, {way}"


def test_scaled_rope_of_changing_frequencies_stays_identical_beyond_the_trained_length():
    for name, longest in (("llama_dynamic", 40), ("phi3_longrope", 40)):
        model = build(name, max_position_embeddings=32) if name == "llama_dynamic" else build(name)
        ids = some_ids(1, longest)
        stock = [model(ids[:, :n]).logits for n in (10, longest, 10)]
        add_rope_scale(model, [0, 2])
        for n, expected in zip((10, longest, 10), stock, strict=True):
            assert torch.equal(model(ids[:, :n]).logits, expected)


# --- other values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_agree_with_the_formula_in_float64(name):
    """Within 1e-5 of the logits' scale; alphas and temperatures change them by at least 500 times as much."""
    model, ids = build(name), some_ids()
    assert rope_layers(model) == [layer for layer in range(LAYERS) if layer not in WITHOUT_ROPE.get(name, ())]
    values, before = [{}, {}], logits(model).double()
    for kind, draw in enumerate((draw_alphas, draw_temperatures)):
        values[kind] = draw(model)
        found, expected = logits(model).double(), exact_logits(name, ids, *values)
        scale = expected.abs().max()
        assert (found - expected).abs().max() < 1e-5 * scale
        assert (found - before).abs().max() > 5e-3 * scale
        before = found


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "phi3_longrope"])
def test_cache_padding_and_packing_agree_with_plain_rows(name):
    """Not LongRoPE: its frequencies change once a row is long, for keys that are in the cache already too."""
    model = build(name, attention="eager" if name in EAGER_ONLY else "sdpa")
    draw_alphas(model)
    ids = some_ids()
    close = {"rtol": 0, "atol": 2e-4}
    with torch.no_grad():
        whole = logits(model)
        ways = ways_of_running(model)
        torch.testing.assert_close(ways["cache"][:, -4:], whole[:, -4:], **close)
        if name != "gpt_oss":  # whose stock model lets packed examples attend to each other
            parts = [model(part, use_cache=False).logits for part in (ids[:, :8], ids[:, 8:])]
            torch.testing.assert_close(ways["packed"], torch.cat(parts, dim=1), **close)
        mask = torch.ones(2, 24, dtype=torch.long)
        mask[:, :4] = 0
        padded = torch.cat((torch.zeros(2, 4, dtype=torch.long), ids), dim=1)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        left = model(padded, attention_mask=mask, position_ids=positions, use_cache=False).logits
        torch.testing.assert_close(left[:, 4:], whole, **close)
        generated = model.generate(padded, attention_mask=mask, max_new_tokens=5, do_sample=False)[:, 24:]
        assert torch.equal(generated, model.generate(ids, max_new_tokens=5, do_sample=False)[:, 20:])


# --- adapters ---------------------------------------------------------------------------------------------------------


def expected_names(name: str, spec) -> set[str]:
    """Names of the parameters that this adapter should train, below the list of layers."""
    child = ".self_attn.{}.modules_to_save.default.{}"
    names = {f".{layer}{child.format('rope_scale', 'log_alpha')}" for layer in spec.garfa_layers}
    names |= {f".{layer}{child.format('logit_scale', 'log_temperature')}" for layer in spec.temperature_layers}
    parts = ["lora_A", "lora_B"] + ["lora_magnitude_vector"] * (spec.variant == "dora")
    for layer in spec.lora_layers:
        for target in spec.targets:
            block = "self_attn" if target in {"q_proj", "qkv_proj", "o_proj"} else "mlp"
            names |= {f".{layer}.{block}.{target}.{part}.default.weight" for part in parts}
    return names


def train_three_steps(model) -> None:
    """Adam on random labels; leaves the last step's gradients, and checks that nothing but the adapter has moved."""
    parameters = trainable(model)
    frozen = {key: value.clone() for key, value in model.named_parameters() if key not in parameters}
    start = {key: value.detach().clone() for key, value in parameters.items()}
    optimizer = torch.optim.Adam(parameters.values(), lr=5e-2)
    for step in range(3):
        optimizer.zero_grad()
        ids = some_ids(seed=step)
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        optimizer.step()
    for key, value in model.named_parameters():
        if key in parameters:
            assert value.grad.abs().max() > 0, key
            assert not torch.equal(value, start[key]), key
        else:
            assert value.grad is None, key
            assert torch.equal(value, frozen[key]), key


@pytest.mark.parametrize("combination", COMBINATIONS)
@pytest.mark.parametrize("name", FAMILIES)
def test_adapt_train_disable_save_load(name, combination, tmp_path):
    spec = spec_for(name, **COMBINATIONS[combination])
    model = build(name)
    stock = logits(model)
    model = adapt(model, spec)
    assert torch.equal(logits(model), stock), "a new adapter changes nothing"
    assert {key.removeprefix("base_model.model.model.layers") for key in trainable(model)} == expected_names(name, spec)
    train_three_steps(model)
    adapted = logits(model)
    assert not torch.allclose(adapted, stock, atol=1e-4)
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


FRESH = """
import json, sys, torch
torch.set_num_threads(1)
from transformers import AutoModelForCausalLM
from colocate.adapters import load, save
from families import logits
folder, names = sys.argv[1], json.loads(sys.argv[2])
found = {}
for name in names:
    base = AutoModelForCausalLM.from_pretrained(f"{folder}/{name}/base", attn_implementation="eager")
    model = load(base, f"{folder}/{name}/adapter")
    found[name] = {"adapted": logits(model)}
    with model.disable_adapter():
        found[name]["base"] = logits(model)
    save(model, f"{folder}/{name}/again", {"source": "path:base"})
torch.save(found, f"{folder}/found.pt")
"""


@pytest.fixture(scope="module")
def fresh_process(tmp_path_factory):
    """Every family trained, saved, then loaded by one other process: {name: (logits here, logits there, folder)}."""
    folder, here = tmp_path_factory.mktemp("fresh"), {}
    for name in FAMILIES:
        model = build(name)
        model.save_pretrained(folder / name / "base")
        here[name] = {"base": logits(model)}
        model = adapt(model, spec_for(name, **COMBINATIONS["rsLoRA, GARFA and temperatures"]))
        train_three_steps(model)
        save(model, folder / name / "adapter", {"source": "path:base"})
        here[name]["adapted"] = logits(model)
    environment = os.environ | {"PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.path.dirname(__file__)}
    subprocess.run([sys.executable, "-c", FRESH, str(folder), json.dumps(list(FAMILIES))], check=True, env=environment)
    there = torch.load(folder / "found.pt")
    return {name: (here[name], there[name], folder / name) for name in FAMILIES}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_fresh_process_gets_equal_logits_and_writes_equal_files(name, fresh_process):
    here, there, folder = fresh_process[name]
    assert torch.equal(there["base"], here["base"])
    assert torch.equal(there["adapted"], here["adapted"])
    names = ["adapter_config.json", "adapter_model.safetensors"]
    assert sorted(path.name for path in (folder / "again").iterdir()) == names
    for file in names:
        assert (folder / "again" / file).read_bytes() == (folder / "adapter" / file).read_bytes()


# --- refusals ---------------------------------------------------------------------------------------------------------

SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 96, "pad_token_id": 0}
DEEPSEEK = {
    **{"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16},
    **{"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "num_experts_per_tok": 1, "moe_intermediate_size": 16},
}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 96}


def tiny_on_paper(kind: str, settings: dict):
    """A model without memory, of a family outside the matrix."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(getattr(transformers, f"{kind}Config")(**settings))


@pytest.mark.parametrize(
    ("kind", "settings", "reason"),
    [
        ("GPT2", GPT, "'gpt2': its decoder has no rotary module"),
        ("Bloom", {"hidden_size": 64, "n_layer": 2, "n_head": 4}, "'bloom': its decoder has no rotary module"),
        ("Falcon", SIZES | {"alibi": True}, "'falcon': FalconForCausalLM: no decoder with `layers`"),
        ("GPTJ", GPT | {"rotary_dim": 16}, "'gptj': its decoder has no rotary module"),
        ("GPTNeoX", SIZES, "'gpt_neox': its layers have no `self_attn`"),
        ("Llama4Text", SIZES | {"num_local_experts": 2}, "'llama4_text': its decoder has no rotary module"),
        ("Mamba", {"hidden_size": 64, "num_hidden_layers": 2}, "'mamba': its decoder has no rotary module"),
        ("DeepseekV3", SIZES | DEEPSEEK, "'deepseek_v3'.* latent attention"),
        ("Gemma4Text", SIZES, r"'gemma4_text': Gemma4TextAttention has no apply_rotary_pos_emb\(q, k, cos, sin\)"),
        ("MiniMax", SIZES | MOE, "'minimax': MiniMaxLightningAttention.* exactly once"),
    ],
)
def test_families_that_are_refused_by_name(kind, settings, reason):
    model = tiny_on_paper(kind, settings)
    for call in (rope_layers, lambda model: add_rope_scale(model, [0]), lambda model: add_logit_scale(model, [0])):
        with pytest.raises(InputError, match=reason):
            call(model)


@pytest.mark.parametrize("kind", ["Phi", "StableLm", "Persimmon"])
def test_families_whose_queries_are_changed_after_the_rotation_have_no_temperatures(kind):
    config = getattr(transformers, f"{kind}Config")(**SIZES, intermediate_size=64)
    model = AutoModelForCausalLM.from_config(config)
    add_rope_scale(model, [0, 1])
    with pytest.raises(InputError, match=f"model type '{kind.lower()}'.* between the rotation and the attention"):
        add_logit_scale(model, [0])
    assert not hasattr(attentions(model)[0], "logit_scale")
