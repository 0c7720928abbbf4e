"""GARFA's rotation: parity with a Llama written out in float64, gradients, perturbations for a while, refusals.

Every family: test_families.py.
"""

import copy
import math

import numpy as np
import pytest
import torch

from colocate.adapters import PER_HEAD
from colocate.errors import InputError
from colocate.rope import add_rope_scale, rope_removed, rope_scaled, scaled_frequencies
from colocate.rotation import LAYOUTS, Rotary, rotating_attention
from colocate.temperature import add_logit_scale
from families import (
    KV_HEADS,
    LAYERS,
    attentions,
    build,
    check_gradients,
    draw_alphas,
    draw_temperatures,
    logits,
    some_ids,
)
from rope_reference import reference_llama

# --- identity at alpha = 1 --------------------------------------------------------------------------------------------


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


# --- other alphas -----------------------------------------------------------------------------------------------------


def test_logits_of_a_llama_agree_with_a_float64_model_written_out():
    model, ids = build("llama"), some_ids().numpy()
    stock = logits(model).numpy()
    with rope_removed(model, 2):
        removed = logits(model).numpy()
    alphas = draw_alphas(model)
    for found, expected in (
        (stock, reference_llama(model, ids, {})),
        (removed, reference_llama(model, ids, {}, removed=2)),
        (logits(model).numpy(), reference_llama(model, ids, alphas)),
    ):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * scale)
        assert found is stock or np.abs(found - stock).max() > 5e-3 * scale


def test_log_alpha_gradient_agrees_with_finite_differences():
    model = build("llama", torch.float64)
    draw_alphas(model)
    check_gradients(model, [attention.rope_scale.log_alpha for attention in attentions(model)])


@pytest.mark.parametrize(
    ("name", "layout", "pairs"),
    [
        ("llama", "halves", "halves"),
        ("glm", "halves", "neighbours"),
        ("cohere", "interleaved", "neighbours"),
        ("gpt_oss", "half width", "halves"),
    ],
)
def test_gradcheck_of_the_rotation(name, layout, pairs):
    model = build(name)
    add_rope_scale(model, [0])  # wraps the family's function
    found = rotating_attention(model, 0).rotary
    assert (found.layout, found.pairs) == (layout, pairs)
    rotate = type(attentions(model)[0]).forward.__globals__["apply_rotary_pos_emb"]
    module = torch.nn.Module()
    module.attention_scaling = 1.25
    rotary = Rotary(module, None, layout, pairs)
    generator = torch.Generator().manual_seed(0)
    d_head = 10 if name == "glm" else 8  # two dimensions that do not rotate
    q = torch.randn(2, 4, 3, d_head, dtype=torch.float64, generator=generator, requires_grad=True)
    k = torch.randn(2, 2, 3, d_head, dtype=torch.float64, generator=generator, requires_grad=True)
    frequencies = 10.0 ** (-torch.arange(4, dtype=torch.float64) / 4)
    # cohere rotates in float32 whatever comes in
    tolerance = {"eps": 1e-2, "atol": 5e-3, "rtol": 1e-3} if name == "cohere" else {}

    def rotated(q, k, log_alpha):
        scaled = scaled_frequencies(frequencies, log_alpha)
        return rotate(q, k, *rotary.rotation(scaled, torch.arange(3)[None], torch.float64))

    for shape in ((2,), (1,), (2, 2), (2, 1)):  # by KV head, one for all, and by row of the batch
        log_alpha = torch.randn(shape, dtype=torch.float64, generator=generator, requires_grad=True)
        assert torch.autograd.gradcheck(rotated, (q, k, log_alpha), **tolerance)


def test_checkpointed_layers_give_the_same_gradients():
    gradients = []
    for checkpointing in (False, True):
        model = build("qwen3").train()
        draw_alphas(model)
        draw_temperatures(model)
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model(some_ids(), use_cache=False).logits.square().mean().backward()
        gradients.append([value.grad for key, value in model.named_parameters() if key.split(".")[-2] in PER_HEAD])
    assert len(gradients[0]) == 2 * LAYERS
    for plain, checkpointed in zip(*gradients, strict=True):
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


@pytest.mark.parametrize("child", PER_HEAD)
def test_a_deep_copy_has_values_of_its_own(child):
    model = build("gemma3")
    {"rope_scale": add_rope_scale, "logit_scale": add_logit_scale}[child](model, [1])
    stock, other = logits(model), copy.deepcopy(model)
    next(getattr(attentions(other)[1], child).parameters()).data.fill_(0.5)
    assert torch.equal(logits(model), stock)
    assert not torch.allclose(logits(other), stock, atol=1e-3)


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


def test_an_unknown_layout_of_cos_and_sin_is_refused(monkeypatch):
    model = build("llama")
    rotary = model.model.rotary_emb
    monkeypatch.setattr(
        rotary, "forward", lambda x, position_ids: [t.flip(-1) for t in type(rotary).forward(rotary, x, position_ids)]
    )
    with pytest.raises(InputError, match=f"'llama'.* none of the layouts {', '.join(LAYOUTS)}"):
        add_rope_scale(model, [0])


@pytest.mark.parametrize(
    "other",
    [
        lambda rotate: lambda q, k, cos, sin: rotate(q, k, cos, -sin),
        lambda rotate: lambda q, k, cos, sin: [torch.cat((t, t[..., :2]), -1) for t in rotate(q, k, cos, sin)],
    ],
    ids=["backwards", "wider"],
)
def test_a_rotation_that_turns_other_pairs_is_refused(monkeypatch, other):
    model = build("llama")
    code = type(attentions(model)[0]).forward.__globals__
    stock = getattr(code["apply_rotary_pos_emb"], "family", code["apply_rotary_pos_emb"])
    monkeypatch.setitem(code, "apply_rotary_pos_emb", lambda q, k, cos, sin: other(stock)(q, k, cos, sin))
    with pytest.raises(InputError, match="turns no pairs of the kinds halves, neighbours"):
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
