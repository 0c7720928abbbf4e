"""Geometry read from files alone, against the live model of every family, and the models that are refused."""

import re
import subprocess
import sys

import pytest
import torch

from colocate import downloads, models, preparation
from colocate.errors import InputError
from tiny import GEOMETRY, edit_config, make_model, make_tokenizer

torch.set_num_threads(1)

SMALL = {
    "vocab_size": 259,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
FULL, SLIDING = "full_attention", "sliding_attention"
FAMILIES = {
    "llama": {},
    "mistral": {"head_dim": 32},
    "qwen2": {},
    "qwen3": {"head_dim": 16},
    "gemma2": {"head_dim": 16},
    "gemma3_text": {"head_dim": 16, "layer_types": [SLIDING, SLIDING, SLIDING, FULL]},
    "olmo2": {},
    "phi3": {"partial_rotary_factor": 0.5},
    "smollm3": {},
    "granite": {},
    "cohere2": {"sliding_window": 8, "layer_types": [SLIDING, FULL, SLIDING, FULL]},
    "exaone4": {"sliding_window": 8, "layer_types": [SLIDING, SLIDING, SLIDING, FULL]},
    "glm4": {"head_dim": 16},
    "gpt_neox": {"rotary_pct": 0.25, "num_key_value_heads": None},
    "mixtral": {"num_local_experts": 4},
}


def prepared(source, place, **options):
    """Fetch and prepare `source` under `place`; returns the prepared folder."""
    downloads.fetch_model(source, place / "download")
    preparation.prepare_model(source, place / "download", place / "model", **options)
    return place / "model"


@pytest.mark.parametrize("family", FAMILIES)
def test_geometry_is_that_of_the_model_in_every_family(family, tmp_path):
    """Read from the files = found in the live model: n_params, linear shapes, frequencies, rotating layers."""
    from transformers import AutoModelForCausalLM
    from transformers.models.auto import CONFIG_MAPPING

    torch.manual_seed(0)
    settings = {key: value for key, value in (SMALL | FAMILIES[family]).items() if value is not None}
    original = AutoModelForCausalLM.from_config(CONFIG_MAPPING[family](**settings)).eval()
    original.save_pretrained(tmp_path / "source")
    make_tokenizer().save_pretrained(tmp_path / "source")
    folder = prepared(f"path:{tmp_path / 'source'}", tmp_path)
    found, model = models.read_geometry(folder), models.load_model(folder, "float32", "cpu")
    raw = models.read_geometry(tmp_path / "source")  # the config as saved, before its defaults are spelled out
    unstated = dict.fromkeys(("source", "revision", "sha256"))  # by a folder without a manifest
    assert raw | unstated == found | unstated

    assert found["n_params"] == sum(parameter.numel() for parameter in model.parameters())
    assert found["attention"] == ("MHA" if family == "gpt_neox" else "GQA")
    rotated, current = set(), [None]
    module = sys.modules[type(model).__module__]
    for layer, block in enumerate(models.decoder_layers(model)):
        linear = {
            n.split(".")[-1]: list(m.weight.shape) for n, m in block.named_modules() if isinstance(m, torch.nn.Linear)
        }
        assert found["linear_shapes"][str(layer)] == linear
        models.attention(block).register_forward_pre_hook(lambda *_, layer=layer, **__: current.__setitem__(0, layer))

    def apply_rotary_pos_emb(*arguments, stock=module.apply_rotary_pos_emb, **options):
        rotated.add(current[0])
        return stock(*arguments, **options)

    ids = torch.arange(3, 15)[None]
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        expected = original(ids).logits
        patch.setattr(module, "apply_rotary_pos_emb", apply_rotary_pos_emb)
        assert torch.equal(model(ids).logits, expected)
    assert sorted(rotated) == found["rope_layers"]

    frequencies = {
        name: buffer for name, buffer in model.named_buffers() if re.search(r"(?<!original_)inv_freq$", name)
    }
    for name, inv_freq in frequencies.items():
        theta = found["rope_theta"]
        if isinstance(theta, dict):
            theta = next(value for kind, value in theta.items() if kind in name)
        exponents = torch.arange(0, found["rotary_dim"], 2, dtype=torch.float64) / found["rotary_dim"]
        assert torch.allclose(inv_freq.double(), theta**-exponents, rtol=1e-5)
    assert frequencies


@pytest.mark.parametrize(("kv_heads", "name"), [(4, "MHA"), (2, "GQA"), (1, "MQA")])
def test_attention_is_named_by_its_kv_heads(tmp_path, kv_heads, name):
    found = models.read_geometry(make_model(tmp_path, num_key_value_heads=kv_heads))
    assert (found["attention"], found["n_kv_heads"], found["n_heads"]) == (name, kv_heads, 4)
    assert found["linear_shapes"]["3"]["k_proj"] == [16 * kv_heads, 64]


def test_a_tied_head_that_is_stored_anyway_is_counted_once(copy):
    from safetensors.torch import load_file, save_file

    expected = models.read_geometry(copy)["n_params"]
    weights = load_file(copy / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, copy / "model.safetensors")
    assert models.read_geometry(copy)["n_params"] == expected
    edit_config(copy, tie_word_embeddings=False)
    assert models.read_geometry(copy)["n_params"] == expected + 259 * 64


def test_configs_of_transformers_4_are_read(copy):
    edit_config(
        copy,
        rope_parameters=...,
        rope_theta=5e5,
        rope_scaling={"rope_type": "llama3", "factor": 8.0},
        dtype=...,
        torch_dtype="float16",
    )
    found = models.read_geometry(copy)
    assert (found["rope_theta"], found["rope_type"], found["checkpoint_dtype"]) == (5e5, "llama3", "float16")
    edit_config(copy, rope_scaling={"rope_type": "novel"}, torch_dtype=...)
    with pytest.raises(InputError, match="rope_type: found 'novel', allowed: default"):
        models.read_geometry(copy)
    edit_config(copy, rope_scaling={"type": "linear", "factor": 2.0}, partial_rotary_factor=0.5)
    found = models.read_geometry(copy)
    assert (found["rope_type"], found["rotary_dim"], found["checkpoint_dtype"]) == ("linear", 8, "float32")


def test_geometry_needs_no_torch_and_little_time(tiny_llama):
    code = (
        "import sys, time; start = time.perf_counter(); from colocate import models; "
        f"models.read_geometry({str(tiny_llama)!r}); print(time.perf_counter() - start, 'torch' in sys.modules)"
    )
    seconds, torch_loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert torch_loaded == "False"
    assert float(seconds) < 1


def test_geometry_that_differs_is_named(tiny_llama, tmp_path):
    wrong = GEOMETRY | {"n_kv_heads": 4}
    with pytest.raises(InputError, match="geometry differs: n_kv_heads: found 2, expected 4 \\(by the config\\)"):
        models.load_model(tiny_llama, "float32", "cpu", geometry=wrong)
    with pytest.raises(InputError, match="geometry differs: n_kv_heads: found 2, expected 4 \\(by the config\\)"):
        prepared(f"path:{tiny_llama}", tmp_path, geometry=wrong)
    with pytest.raises(InputError, match="found unknown heads; allowed: .*n_heads"):
        models.load_model(tiny_llama, "float32", "cpu", geometry={"heads": 4})
    with pytest.raises(InputError, match="dtype: found 'bfloat16', expected 'float32'"):
        models.load_model(tiny_llama, "bfloat16", "cpu", geometry={"dtype": "float32"})


@pytest.mark.smollm2
def test_geometry_of_smollm2(smollm2):
    found = models.read_geometry(smollm2)
    expected = {
        "n_layers": 30,
        "n_heads": 9,
        "n_kv_heads": 3,
        "head_dim": 64,
        "hidden": 576,
        "ffn": 1536,
        "vocab": 49152,
    }
    assert {key: found[key] for key in expected} == expected
    assert found["attention"] == "GQA"
    assert found["rope_layers"] == list(range(30))
    assert (found["rope_theta"], found["rope_type"], found["rotary_dim"]) == (100000.0, "default", 64)
    assert found["checkpoint_dtype"] == "bfloat16"
    layer = 2 * 576 + 2 * 576 * 576 + 2 * 192 * 576 + 3 * 1536 * 576  # norms, q and o, k and v, the MLP
    assert found["n_params"] == 49152 * 576 + 30 * layer + 576


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mystery"}, "model_type: found 'mystery'; expected an architecture of transformers"),
        (
            {"model_type": "mystery", "auto_map": {"AutoModelForCausalLM": "modeling.Mystery"}},
            r"model_type: found 'mystery' \(auto_map names code of its own, which is never run\)",
        ),
        ({"model_type": "gpt2"}, "'gpt2' .learned absolute positions.*expected a decoder-only model with rotary"),
        ({"model_type": "opt"}, "'opt' .learned absolute positions"),
        ({"model_type": "bloom"}, "'bloom' .ALiBi"),
        ({"model_type": "t5", "is_encoder_decoder": True}, "'t5' .an encoder-decoder with relative position biases"),
        ({"model_type": "bert", "rope_parameters": ...}, "'bert' .no rope_theta or rope_parameters"),
        ({"model_type": "deepseek_v3", "kv_lora_rank": 8}, "'deepseek_v3' .multi-head latent attention"),
        (
            {"quantization_config": {"quant_method": "awq"}},
            "quantization_config: found 'awq'; expected unquantised weights",
        ),
        ({"num_key_value_heads": 4}, "layer 0: k_proj has 32 rows, expected 64 by num_attention_heads"),
        ({"num_hidden_layers": 3}, "num_hidden_layers: found 3, but the weights hold model.layers.3"),
        ({"num_attention_heads": "four"}, "config.json: transformers refuses it"),
    ],
)
def test_a_model_outside_the_question_is_refused_by_name(copy, tmp_path, changes, message):
    edit_config(copy, **changes)
    with pytest.raises(InputError, match=message):
        prepared(f"path:{copy}", tmp_path)
    assert not (tmp_path / "model").exists()
