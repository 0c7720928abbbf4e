"""An independent reference for GARFA and logit temperatures, in float64, from the published formulas.

It shares no code with colocate.rope, colocate.rotation, colocate.temperature or transformers' rotary modules: each
family's pairing of dimensions and its frequencies are stated here by hand, angles and attention are loops over heads.
"""

import contextlib
import math

import numpy as np
import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from families import FAMILIES, GEOMETRY, HEAD_DIM, HEADS, KV_HEADS, LAYERS, attentions, build

NEIGHBOURS = {"cohere", "cohere2", "glm", "glm4", "ernie4_5"}  # pair i is (2i, 2i+1); elsewhere (i, i + d/2)


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
    if kind in {"default", "dynamic", "linear"}:
        return frequencies / (s if kind == "linear" else 1), 1.0
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


# --- every family: its own code in float64, with this rotation and attention in place of its own ----------------------


@torch.no_grad()
def exact_logits(name: str, ids: torch.Tensor, alphas: dict[int, np.ndarray], temperatures: dict[int, np.ndarray]):
    """Logits of a family's tiny model. alphas and temperatures: {layer: (K,)}; layers without an entry have 1."""
    AttentionInterface.register("reference", _attend)
    AttentionMaskInterface.register("reference", eager_mask)
    model = build(name, attention="reference").double()
    model.config._experts_implementation = "eager"  # the others know no float64
    code = type(attentions(model)[0]).forward.__globals__
    stock, layer_now, ones = code["apply_rotary_pos_emb"], None, np.ones(model.config.num_key_value_heads)

    def enter(attention, args, kwargs):
        nonlocal layer_now
        layer_now = attention.layer_idx
        attention.reference_temperature = temperatures.get(layer_now, ones)

    def rotate(q, k, cos, sin, **options):
        frequencies, factor = reference_frequencies(name, layer_now, ids.shape[1])
        shared = np.arange(ids.shape[1]), frequencies, factor, alphas.get(layer_now, ones), name in NEIGHBOURS
        return tuple(torch.from_numpy(reference_rotation(x.numpy(), *shared)) for x in (q, k))

    for attention in attentions(model):
        attention.register_forward_pre_hook(enter, with_kwargs=True)
    with contextlib.ExitStack() as stack:
        stack.callback(code.__setitem__, "apply_rotary_pos_emb", stock)
        code["apply_rotary_pos_emb"] = rotate
        return model(ids, use_cache=False).logits


def _attend(module, q, k, v, mask, scaling=None, softcap=None, s_aux=None, **options):
    """Attention written out, head by head: q (B, H, T, d_head), k and v (B, K, T, d_head), s_aux (H,) sinks."""
    mixed = torch.empty(*q.shape[:3], v.shape[-1], dtype=torch.float64)
    for head in range(q.shape[1]):
        group = head // (q.shape[1] // k.shape[1])
        scores = torch.einsum("bmd,bnd->bmn", q[:, head], k[:, group]) * (scaling or q.shape[-1] ** -0.5)
        scores = scores * module.reference_temperature[group]
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        weight = torch.exp(scores - scores.amax(-1, keepdim=True)) * (mask[:, 0] == 0)
        sink = 0 if s_aux is None else torch.exp(s_aux[head].double() - scores.amax(-1))
        mixed[:, head] = torch.einsum("bmn,bnd->bmd", weight / (weight.sum(-1) + sink).unsqueeze(-1), v[:, group])
    return mixed.transpose(1, 2), None
