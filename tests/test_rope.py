"""GARFA's rotation on tiny random models of every supported family, against the formula written out in float64.

The reference below shares no code with colocate.rope or transformers: each family's pairing of dimensions and its
frequencies are stated here by hand.
"""

import copy
import math

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from colocate.errors import InputError
from colocate.rope import LAYOUTS, Rotary, add_rope_scale, rope_layers, rope_removed, rope_scaled, scaled_frequencies

torch.set_num_threads(1)

HEADS, KV_HEADS, HEAD_DIM, LAYERS, THETA = 4, 2, 16, 4, 5000.0
PLAIN = {"rope_type": "default", "rope_theta": THETA}
GEOMETRY = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": HEAD_DIM,
    "max_position_embeddings": 256,
    "rope_parameters": PLAIN,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
BY_TYPE = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 300.0},
    "full_attention": {"rope_type": "default", "rope_theta": THETA},
}
SLIDING = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"] * 2}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": THETA,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": THETA,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
    "truncate": False,
}
LONG = {
    "rope_type": "longrope",
    "rope_theta": THETA,
    "short_factor": [1.0 + 0.1 * i for i in range(8)],
    "long_factor": [2.0 + 0.2 * i for i in range(8)],
    "original_max_position_embeddings": 16,
    "factor": 16.0,
}
MOE = {"num_local_experts": 2, "num_experts_per_tok": 1}

# name: (config class, what differs from GEOMETRY)
FAMILIES = {
    "llama": ("Llama", {}),
    "llama_mqa": ("Llama", {"num_key_value_heads": 1}),
    "llama_mha": ("Llama", {"num_key_value_heads": HEADS}),
    "llama_llama3": ("Llama", {"rope_parameters": LLAMA3}),
    "llama_dynamic": ("Llama", {"rope_parameters": PLAIN | {"rope_type": "dynamic", "factor": 2.0}}),
    "mistral": ("Mistral", {}),
    "mixtral": ("Mixtral", MOE),
    "qwen2": ("Qwen2", {}),
    "qwen2_yarn": ("Qwen2", {"rope_parameters": YARN}),
    "qwen3": ("Qwen3", {}),
    "gemma": ("Gemma", {}),
    "gemma2": ("Gemma2", {"sliding_window": 8}),
    "gemma3": ("Gemma3Text", SLIDING | {"rope_parameters": BY_TYPE}),
    "olmo2": ("Olmo2", {}),
    "olmo3": ("Olmo3", SLIDING | {"rope_parameters": BY_TYPE}),
    "phi3": ("Phi3", {"rope_parameters": PLAIN | {"partial_rotary_factor": 0.5}}),
    "phi3_longrope": ("Phi3", {"rope_parameters": LONG, "original_max_position_embeddings": 16}),
    "smollm3": ("SmolLM3", {}),
    "granite": ("Granite", {}),
    "cohere": ("Cohere", {}),
    "cohere2": ("Cohere2", SLIDING),
    "glm": ("Glm", {"rope_parameters": PLAIN | {"partial_rotary_factor": 0.5}}),
    "glm4": ("Glm4", {"rope_parameters": PLAIN | {"partial_rotary_factor": 0.5}}),
    "starcoder2": ("Starcoder2", {}),
    "gpt_oss": ("GptOss", SLIDING | MOE),
    "ernie4_5": ("Ernie4_5", {}),
    "exaone4": ("Exaone4", SLIDING),
}
NEIGHBOURS = {"cohere", "cohere2", "glm", "glm4", "ernie4_5"}  # pair i is (2i, 2i+1); elsewhere (i, i + d/2)
EAGER_ONLY = {"gemma2", "gpt_oss"}  # transformers offers no sdpa for them
WITHOUT_ROPE = {"smollm3": {3}, "cohere2": {1, 3}, "exaone4": {1, 3}}


def build(name: str, dtype=torch.float32, attention: str = "eager", **changes):
    """A tiny random model of a family, its weights large enough that logits differ clearly."""
    kind, differences = FAMILIES[name]
    config = getattr(transformers, f"{kind}Config")(**copy.deepcopy(GEOMETRY | differences | changes))
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
    return model.eval()


def attentions(model) -> list:
    return [layer.self_attn for layer in model.get_decoder().layers]


def draw_alphas(model, seed: int = 1) -> dict[int, np.ndarray]:
    """Add alphas to every layer with RoPE, log alpha between -1 and 1; returns {layer: alpha (K,)} in float64."""
    layers = rope_layers(model)
    add_rope_scale(model, layers)
    generator = torch.Generator().manual_seed(seed)
    for layer in layers:
        log_alpha = attentions(model)[layer].rope_scale.log_alpha
        log_alpha.data.copy_(2 * torch.rand(log_alpha.shape, generator=generator) - 1)
    return {layer: np.exp(attentions(model)[layer].rope_scale.log_alpha.detach().double().numpy()) for layer in layers}


def some_ids(rows: int = 2, length: int = 20, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, 96, (rows, length), generator=torch.Generator().manual_seed(seed))


# --- the reference ----------------------------------------------------------------------------------------------------


def reference_frequencies(name: str, layer: int, length: int) -> tuple[np.ndarray, float]:
    """Final frequencies (d/2,) and the factor on cos and sin, from the published formulas, in float64."""
    config = GEOMETRY | FAMILIES[name][1]
    rope = config["rope_parameters"]
    if "rope_theta" not in rope:
        rope = rope[config["layer_types"][layer]]
    d, theta = int(HEAD_DIM * rope.get("partial_rotary_factor", 1.0)), rope["rope_theta"]
    i, kind, s = np.arange(d // 2), rope["rope_type"], rope.get("factor", 1.0)
    if kind == "dynamic":  # NTK-aware, growing with the length
        longest = max(length, config["max_position_embeddings"])
        theta *= (s * longest / config["max_position_embeddings"] - (s - 1)) ** (d / (d - 2))
    frequencies = theta ** (-2.0 * i / d)
    if kind == "default" or kind == "dynamic":
        return frequencies, 1.0
    original = rope["original_max_position_embeddings"]
    turns = original * frequencies / (2 * np.pi)
    if kind == "llama3":
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        keep = np.clip((turns - low) / (high - low), 0, 1)
        return keep * frequencies + (1 - keep) * frequencies / s, 1.0
    if kind == "longrope":
        factors = np.array(rope["long_factor" if length > original else "short_factor"])
        return frequencies / factors, math.sqrt(1 + math.log(s) / math.log(original))
    fast, slow = (d * math.log(original / (beta * 2 * math.pi)) / (2 * math.log(theta)) for beta in (32, 1))  # YaRN
    keep = 1 - np.clip((i - max(fast, 0)) / (min(slow, d - 1) - max(fast, 0)), 0, 1)
    return keep * frequencies + (1 - keep) * frequencies / s, 0.1 * math.log(s) + 1


def reference_rotation(x, positions, frequencies, factor, alpha, neighbours: bool) -> np.ndarray:
    """Rotate x (B, heads, T, d_head) by angle(m, i) = m frequency_i alpha_k^(-2i/d), head by head and pair by pair."""
    x = x.astype(np.float64)
    rotated = x.copy()
    pairs, group = len(frequencies), x.shape[1] // len(alpha)
    for head in range(x.shape[1]):
        for i in range(pairs):
            a, b = (2 * i, 2 * i + 1) if neighbours else (i, i + pairs)
            angle = positions * frequencies[i] * alpha[head // group] ** (-2 * i / (2 * pairs))
            cos, sin = factor * np.cos(angle), factor * np.sin(angle)
            rotated[:, head, :, a] = x[:, head, :, a] * cos - x[:, head, :, b] * sin
            rotated[:, head, :, b] = x[:, head, :, b] * cos + x[:, head, :, a] * sin
    return rotated


def reference_llama(model, ids: np.ndarray, alphas: dict[int, np.ndarray], removed: int | None = None) -> np.ndarray:
    """Logits of a Llama, written out in float64."""
    weights = {name: value.detach().double().numpy() for name, value in model.state_dict().items()}
    config = model.config
    length = ids.shape[1]

    def norm(x, name):
        return weights[name] * x / np.sqrt((x**2).mean(-1, keepdims=True) + config.rms_norm_eps)

    def heads(x):
        return x.reshape(*x.shape[:2], -1, HEAD_DIM).transpose(0, 2, 1, 3)

    x = weights["model.embed_tokens.weight"][ids]
    for layer in range(LAYERS):
        w = {name: weights[f"model.layers.{layer}.{name}.weight"] for name in (
            *(f"self_attn.{p}_proj" for p in "qkvo"), *(f"mlp.{p}_proj" for p in ("gate", "up", "down")))}  # fmt: skip
        h = norm(x, f"model.layers.{layer}.input_layernorm.weight")
        q, k, v = (heads(h @ w[f"self_attn.{p}_proj"].T) for p in "qkv")
        frequencies, factor = reference_frequencies("llama", layer, length)
        frequencies = frequencies * (layer != removed)
        alpha = alphas.get(layer, np.ones(KV_HEADS))
        q, k = (reference_rotation(t, np.arange(length), frequencies, factor, alpha, False) for t in (q, k))
        k, v = (np.repeat(t, HEADS // KV_HEADS, axis=1) for t in (k, v))
        scores = q @ k.swapaxes(-1, -2) / math.sqrt(HEAD_DIM) + np.triu(np.full((length, length), -np.inf), 1)
        share = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (share / share.sum(-1, keepdims=True)) @ v
        x = x + mixed.transpose(0, 2, 1, 3).reshape(*ids.shape, -1) @ w["self_attn.o_proj"].T
        h = norm(x, f"model.layers.{layer}.post_attention_layernorm.weight")
        gate = h @ w["mlp.gate_proj"].T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ w["mlp.up_proj"].T)) @ w["mlp.down_proj"].T
    return norm(x, "model.norm.weight") @ weights["lm_head.weight"].T


# --- identity at alpha = 1 --------------------------------------------------------------------------------------------


@torch.no_grad()
def ways_of_running(model) -> dict[str, torch.Tensor]:
    """One forward, left padding, packed rows, KV cache step by step, generation."""
    ids = some_ids()
    mask = torch.ones_like(ids)
    mask[0, :5] = 0
    restarting = torch.cat((torch.arange(8), torch.arange(12)))[None].expand(2, -1)
    steps = [model(ids[:, :16], use_cache=True)]
    for step in range(16, 20):
        steps.append(model(ids[:, step : step + 1], past_key_values=steps[-1].past_key_values))
    return {
        "forward": model(ids).logits,
        "left padding": model(ids, attention_mask=mask).logits,
        "packed": model(ids, position_ids=restarting, use_cache=False).logits,
        "cache": torch.cat([step.logits for step in steps], dim=1),
        "generate": model.generate(ids, attention_mask=mask, max_new_tokens=5, do_sample=False),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", FAMILIES)
def test_alpha_one_is_the_stock_model_bit_for_bit(name, dtype):
    for attention in ("eager",) if name in EAGER_ONLY else ("eager", "sdpa"):
        model = build(name, dtype, attention)
        stock = ways_of_running(model)
        add_rope_scale(model, rope_layers(model))
        for way, logits in ways_of_running(model).items():
            assert torch.equal(logits, stock[way]), f"{attention}, {way}"


@pytest.mark.smollm2
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_alpha_one_is_the_real_smollm2_bit_for_bit(smollm2, dtype):
    from colocate.models import load_model

    model, ids = load_model(smollm2, dtype, "cpu"), some_ids(2, 67)
    with torch.no_grad():
        stock = model(ids).logits
        add_rope_scale(model, range(30))
        assert torch.equal(model(ids).logits, stock)
        with rope_scaled(model, 3, 0.1):
            assert not torch.equal(model(ids).logits, stock)


def test_scaled_rope_of_changing_frequencies_stays_identical_beyond_the_trained_length():
    for name, longest in (("llama_dynamic", 40), ("phi3_longrope", 40)):
        model = build(name, max_position_embeddings=32) if name == "llama_dynamic" else build(name)
        ids = some_ids(1, longest)
        stock = [model(ids[:, :n]).logits for n in (10, longest, 10)]
        add_rope_scale(model, [0, 2])
        for n, logits in zip((10, longest, 10), stock, strict=True):
            assert torch.equal(model(ids[:, :n]).logits, logits)


# --- other alphas -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_queries_and_keys_are_rotated_as_the_formula_says(name, monkeypatch):
    model = build(name)
    layers = rope_layers(model)
    assert layers == [layer for layer in range(LAYERS) if layer not in WITHOUT_ROPE.get(name, ())]
    alphas = draw_alphas(model)
    code = type(attentions(model)[0]).forward.__globals__
    rotate, seen = code["apply_rotary_pos_emb"], []

    def record(q, k, cos, sin):
        seen.append(((q, k), rotate(q, k, cos, sin)))
        return seen[-1][1]

    monkeypatch.setitem(code, "apply_rotary_pos_emb", record)
    ids = some_ids()
    positions = torch.stack((torch.arange(20), torch.arange(7, 27)))
    with torch.no_grad():
        model(ids, position_ids=positions, use_cache=False)
    assert len(seen) == len(layers)
    for layer, (before, after) in zip(layers, seen, strict=True):
        frequencies, factor = reference_frequencies(name, layer, length=27)
        for x, rotated in zip(before, after, strict=True):
            pairing = name in NEIGHBOURS
            expected = reference_rotation(x.numpy(), positions.numpy(), frequencies, factor, alphas[layer], pairing)
            np.testing.assert_allclose(rotated.numpy(), expected, rtol=0, atol=2e-5 * float(x.abs().max()))


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "phi3_longrope"])
def test_cache_padding_and_packing_agree_with_plain_rows(name):
    """Not LongRoPE: its frequencies change once a row is long, for keys that are in the cache already too."""
    model = build(name, attention="eager" if name in EAGER_ONLY else "sdpa")
    draw_alphas(model)
    ids = some_ids()
    close = {"rtol": 0, "atol": 2e-4}
    with torch.no_grad():
        whole = model(ids, use_cache=False).logits
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


def test_logits_of_a_llama_agree_with_a_float64_model_written_out():
    model, ids = build("llama"), some_ids()
    stock = model(ids).logits.detach().numpy()
    np.testing.assert_allclose(stock, reference_llama(model, ids.numpy(), {}), rtol=0, atol=1e-4)
    with rope_removed(model, 2), torch.no_grad():
        removed = model(ids).logits.numpy()
    np.testing.assert_allclose(removed, reference_llama(model, ids.numpy(), {}, removed=2), rtol=0, atol=1e-4)
    alphas = draw_alphas(model)
    logits = model(ids).logits.detach().numpy()
    np.testing.assert_allclose(logits, reference_llama(model, ids.numpy(), alphas), rtol=0, atol=1e-4)
    assert min(np.abs(logits - stock).max(), np.abs(removed - stock).max()) > 0.02


def test_log_alpha_gradient_agrees_with_finite_differences():
    model, ids = build("llama", torch.float64), some_ids()
    draw_alphas(model)

    def loss():
        return torch.nn.functional.cross_entropy(model(ids[:, :-1]).logits.flatten(0, 1), ids[:, 1:].flatten())

    loss().backward()
    step = 1e-2
    for attention in attentions(model):
        log_alpha = attention.rope_scale.log_alpha
        for head in range(KV_HEADS):
            values = []
            for sign in (1, -1):
                with torch.no_grad():
                    log_alpha[head] += sign * step
                    values.append(loss().item())
                    log_alpha[head] -= sign * step
            numeric = (values[0] - values[1]) / (2 * step)
            assert log_alpha.grad[head].item() == pytest.approx(numeric, rel=5e-3, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "layout"), [("llama", "halves"), ("cohere", "interleaved"), ("gpt_oss", "half width")]
)
def test_gradcheck_of_the_rotation(name, layout):
    model = build(name)
    add_rope_scale(model, [0])  # wraps the family's function
    rotate = type(attentions(model)[0]).forward.__globals__["apply_rotary_pos_emb"]
    module = torch.nn.Module()
    module.attention_scaling = 1.0
    rotary = Rotary(module, None, layout)
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(2, 4, 3, 8, dtype=torch.float64, generator=generator, requires_grad=True)
    k = torch.randn(2, 2, 3, 8, dtype=torch.float64, generator=generator, requires_grad=True)
    log_alpha = torch.randn(2, dtype=torch.float64, generator=generator, requires_grad=True)
    frequencies = 10.0 ** (-torch.arange(4, dtype=torch.float64) / 4)

    def rotated(q, k, log_alpha):
        scaled = scaled_frequencies(frequencies, log_alpha)
        if name == "cohere":  # rotates in float32 whatever comes in: check cos and sin alone
            return rotary.cos_sin(scaled, torch.arange(3)[None], torch.float64)
        return rotate(q, k, *rotary.cos_sin(scaled, torch.arange(3)[None], torch.float64))

    assert torch.autograd.gradcheck(rotated, (q, k, log_alpha))


def test_checkpointed_layers_give_the_same_gradients():
    grads = []
    for checkpointing in (False, True):
        model = build("qwen3").train()
        draw_alphas(model)
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model(some_ids(), use_cache=False).logits.square().mean().backward()
        grads.append([attention.rope_scale.log_alpha.grad for attention in attentions(model)])
    for plain, checkpointed in zip(*grads, strict=True):
        assert plain.abs().min() > 0
        assert torch.equal(plain, checkpointed)


# --- the context managers ---------------------------------------------------------------------------------------------


def with_alphas(layer: int, log_alpha) -> torch.Tensor:
    model = build("llama")
    add_rope_scale(model, [layer])
    attentions(model)[layer].rope_scale.log_alpha.data[:] = torch.as_tensor(log_alpha)
    return model(some_ids()).logits


def test_rope_scaled_is_garfa_for_a_while():
    model, ids = build("llama"), some_ids()
    stock = model(ids).logits
    for log_alpha in (0.5, torch.tensor([0.5, -0.25])):
        with rope_scaled(model, 1, log_alpha):
            torch.testing.assert_close(model(ids).logits, with_alphas(1, log_alpha), rtol=0, atol=1e-5)
        assert torch.equal(model(ids).logits, stock)
    with rope_scaled(model, 1, 0.0):
        assert torch.equal(model(ids).logits, stock)
    with pytest.raises(RuntimeError, match="inside"), rope_scaled(model, 1, 0.5):
        raise RuntimeError("inside")
    assert torch.equal(model(ids).logits, stock)


@pytest.mark.parametrize("shape", [(3, 1), (3, KV_HEADS)])
def test_several_perturbations_ride_in_one_batch(shape):
    model, ids = build("llama"), some_ids(1)
    log_alpha = torch.linspace(-0.7, 0.7, math.prod(shape)).view(shape)
    with torch.no_grad():
        with rope_scaled(model, 2, log_alpha):
            together = model(ids.expand(3, -1)).logits
        for row in range(3):
            with rope_scaled(model, 2, log_alpha[row].expand(KV_HEADS)):
                torch.testing.assert_close(together[row : row + 1], model(ids).logits, rtol=0, atol=1e-4)


def test_rope_scaled_acts_on_top_of_learned_alphas_and_passes_gradients():
    model, ids = build("llama"), some_ids()
    add_rope_scale(model, [2])
    attentions(model)[2].rope_scale.log_alpha.data.fill_(0.3)
    log_alpha = torch.full((KV_HEADS,), 0.2, requires_grad=True)
    with rope_scaled(model, 2, log_alpha):
        logits = model(ids).logits
    torch.testing.assert_close(logits, with_alphas(2, 0.5), rtol=0, atol=1e-4)
    logits.square().mean().backward()
    assert log_alpha.grad.abs().min() > 0


def test_a_layer_whose_rope_is_removed_knows_no_positions():
    model, ids = build("llama", num_hidden_layers=1), some_ids(1)
    shuffled = torch.randperm(20, generator=torch.Generator().manual_seed(0))[None]
    stock = model(ids, use_cache=False, attention_mask=torch.ones_like(ids)).logits
    with rope_removed(model, 0):
        one, two = (
            model(ids, position_ids=positions, use_cache=False, attention_mask=torch.ones_like(ids)).logits
            for positions in (shuffled, None)
        )
    assert torch.equal(one, two)
    assert not torch.allclose(two, stock, atol=1e-2)


def test_a_deep_copy_has_alphas_of_its_own():
    model, ids = build("gemma3"), some_ids()
    add_rope_scale(model, [1])
    stock, other = model(ids).logits, copy.deepcopy(model)
    attentions(other)[1].rope_scale.log_alpha.data.fill_(0.5)
    assert torch.equal(model(ids).logits, stock)
    assert not torch.allclose(other(ids).logits, stock, atol=1e-3)


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "layers", "message"),
    [
        ("llama", [1, 1], "twice"),
        ("llama", [LAYERS], "layers 0 to 3"),
        ("llama", [-1], "layers 0 to 3"),
        ("llama", ["1"], "layers 0 to 3"),
        ("smollm3", [0, 3], r"layer 3 has no rotary position encoding; layers with it: \[0, 1, 2\]"),
        ("cohere2", [1], r"layers with it: \[0, 2\]"),
    ],
)
def test_layers_that_cannot_be_targets(name, layers, message):
    model = build(name)
    with pytest.raises(InputError, match=message):
        add_rope_scale(model, layers)
    assert not any(hasattr(attention, "rope_scale") for attention in attentions(model))
    if name != "llama":
        with pytest.raises(InputError, match="no rotary"), rope_scaled(model, layers[-1], 0.1):
            pass
        with pytest.raises(InputError, match="no rotary"), rope_removed(model, layers[-1]):
            pass


def test_a_second_set_of_alphas_is_refused():
    model = build("llama")
    add_rope_scale(model, [1])
    with pytest.raises(InputError, match="layer 1 already"):
        add_rope_scale(model, [0, 1])
    assert not hasattr(attentions(model)[0], "rope_scale")


@pytest.mark.parametrize("log_alpha", [torch.zeros(3), torch.zeros(2, 3), torch.zeros(1, 1, 2)])
def test_log_alpha_of_a_wrong_shape(log_alpha):
    with (
        pytest.raises(InputError, match=r"allowed for layer 0: a number, \(2,\)"),
        rope_scaled(build("llama"), 0, log_alpha),
    ):
        pass


def test_a_batch_that_does_not_fit_the_perturbations():
    model = build("llama")
    with pytest.raises(InputError, match="fits neither"), rope_scaled(model, 0, torch.zeros(3, 1)):
        model(some_ids(2))


DEEPSEEK = {
    **{"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16},
    **{"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "num_experts_per_tok": 1, "moe_intermediate_size": 16},
}


@pytest.mark.parametrize(
    ("kind", "settings", "reason"),
    [
        ("GPT2", {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 96}, "gpt2"),
        ("GPTNeoX", {}, "'gpt_neox': its layers have no `self_attn`"),
        ("DeepseekV3", DEEPSEEK, "'deepseek_v3'.* latent attention"),
        ("Gemma4Text", {}, r"'gemma4_text': Gemma4TextAttention has no apply_rotary_pos_emb\(q, k, cos, sin\)"),
        ("MiniMax", MOE, "'minimax': MiniMaxLightningAttention.* exactly once"),
    ],
)
def test_families_that_are_refused_by_name(kind, settings, reason):
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    settings = settings if kind == "GPT2" else {**sizes, "vocab_size": 96, "pad_token_id": 0, **settings}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(getattr(transformers, f"{kind}Config")(**settings))
    for call in (rope_layers, lambda model: add_rope_scale(model, [0])):
        with pytest.raises(InputError, match=reason):
            call(model)


def test_an_unknown_layout_of_cos_and_sin_is_refused(monkeypatch):
    model = build("llama")
    rotary = model.model.rotary_emb
    monkeypatch.setattr(
        rotary, "forward", lambda x, position_ids: [t.flip(-1) for t in type(rotary).forward(rotary, x, position_ids)]
    )
    with pytest.raises(InputError, match=f"'llama'.* none of the layouts {', '.join(LAYOUTS)}"):
        add_rope_scale(model, [0])


def test_a_rotation_that_mixes_heads_is_refused(monkeypatch):
    model = build("llama")
    code = type(attentions(model)[0]).forward.__globals__
    stock = getattr(code["apply_rotary_pos_emb"], "family", code["apply_rotary_pos_emb"])

    def mixing(q, k, cos, sin):
        q, k = stock(q, k, cos, sin)
        return q.flip(-3), k

    monkeypatch.setitem(code, "apply_rotary_pos_emb", mixing)
    with pytest.raises(InputError, match="cannot rotate each KV head"):
        add_rope_scale(model, [0])
