"""Logit temperatures on a tiny Llama: gradients, company with GARFA, refusals. Every family: test_families.py."""

import pytest
import torch

from colocate.errors import InputError
from colocate.rope import add_rope_scale, rope_removed, rope_scaled
from colocate.temperature import LogitScale, add_logit_scale
from families import attentions, build, check_gradients, draw_temperatures, logits


def test_queries_of_a_group_share_its_temperature():
    scale = LogitScale(2)
    scale.log_temperature.data = torch.tensor([2.0, 1.0]).log()
    q = torch.randn(1, 6, 3, 4)
    torch.testing.assert_close(scale(q)[:, :3], 2 * q[:, :3])
    assert torch.equal(scale(q)[:, 3:], q[:, 3:])
    assert scale(q.bfloat16()).dtype == torch.bfloat16


def test_log_temperature_gradient_agrees_with_finite_differences():
    model = build("llama", torch.float64)
    draw_temperatures(model)
    check_gradients(model, [attention.logit_scale.log_temperature for attention in attentions(model)])


@pytest.mark.parametrize("order", ["temperature first", "GARFA first"])
def test_temperatures_and_garfa_act_together(order):
    model = build("llama")
    adds = [add_logit_scale, add_rope_scale]
    for add in adds if order == "temperature first" else reversed(adds):
        add(model, [1, 2])
    for layer in (1, 2):
        attentions(model)[layer].logit_scale.log_temperature.data = torch.tensor([0.5, -0.7])
    stock = logits(model)
    with rope_scaled(model, 2, 0.4):
        perturbed = logits(model)
    with rope_removed(model, 2):
        removed = logits(model)
    assert torch.equal(logits(model), stock)
    attentions(model)[2].rope_scale.log_alpha.data.fill_(0.4)
    torch.testing.assert_close(perturbed, logits(model), rtol=0, atol=1e-5)
    attentions(model)[2].logit_scale.log_temperature.data.zero_()
    for found in (perturbed, removed, stock):
        assert not torch.allclose(found, logits(model), atol=1e-3)


@pytest.mark.parametrize(
    ("name", "layers", "message"),
    [
        ("llama", [1, 1], "a layer is named twice"),
        ("llama", [4], "layers 0 to 3"),
        ("smollm3", [0, 3], r"layer 3 has no rotary position encoding; layers with it: \[0, 1, 2\]"),
    ],
)
def test_layers_that_cannot_be_targets(name, layers, message):
    model = build(name)
    with pytest.raises(InputError, match=message):
        add_logit_scale(model, layers)
    assert not any(hasattr(attention, "logit_scale") for attention in attentions(model))
    add_logit_scale(model, [0])
    with pytest.raises(InputError, match="layer 0 already has a logit_scale"):
        add_logit_scale(model, [0])
