"""The plan of a training run and its FLOPs."""

import math

import numpy as np
import pytest
import torch

from colocate import fitting, training_data
from colocate.budget import AdapterSpec
from colocate.errors import InputError
from colocate.geometry import read_geometry
from colocate.training_data import Settings, plan_steps
from toy_training import TARGETS, load

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_plan_is_a_permutation_per_epoch_within_its_budget():
    lengths = np.random.default_rng(0).integers(5, 60, 50).tolist()
    settings = Settings(max_tokens=10**6, epochs=3, tokens_per_step=200)
    steps = plan_steps(lengths, settings, seed=4)
    order = [index for step in steps for index in step.examples]
    epochs = [order[i : i + 50] for i in (0, 50, 100)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    sizes = [sum(lengths[i] for i in step.examples) for step in steps]
    assert max(sizes) <= 200
    assert np.cumsum(sizes).tolist() == [step.tokens for step in steps]
    assert steps[-1].epoch == 3
    assert plan_steps(lengths, settings, seed=4) == steps != plan_steps(lengths, settings, seed=5)

    cut = plan_steps(lengths, Settings(max_tokens=1000, epochs=3, tokens_per_step=200), seed=4)
    assert 1000 - 60 < cut[-1].tokens <= 1000
    assert [i for step in cut for i in step.examples] == order[: sum(len(step.examples) for step in cut)]
    with pytest.raises(InputError, match="training.max_tokens: found 4, less than one example"):
        plan_steps(lengths, Settings(max_tokens=4), seed=0)


def test_learning_rates_warm_up_and_follow_their_schedule():
    cosine = [Settings(warmup=0.2).rate(step, 10) for step in range(1, 11)]
    np.testing.assert_allclose(cosine[:3], [0.5, 1, 1])
    np.testing.assert_allclose(cosine[2:], [(1 + math.cos(math.pi * k / 8)) / 2 for k in range(8)])
    linear = [Settings(warmup=0, schedule="linear").rate(step, 4) for step in range(1, 5)]
    np.testing.assert_allclose(linear, [1, 0.75, 0.5, 0.25])
    assert {Settings(warmup=0, schedule="constant").rate(step, 4) for step in range(1, 5)} == {1.0}


@pytest.mark.parametrize(("lora", "garfa"), [((2, 3), (3,)), ((0,), ()), ((3,), (1,))])
def test_flops_agree_with_torch_s_counter(tiny_llama, mixture, lora, garfa):
    """Matrix products as torch counts them, plus the gradient of the first adapted layer's input."""
    from torch.utils.flop_counter import FlopCounterMode

    spec = AdapterSpec(lora, garfa, 4, 8, TARGETS)
    model, one = load(tiny_llama, mixture, spec)
    example = one.data["train"][0]
    with FlopCounterMode(display=False) as counter:
        fitting.accumulate(model, one, [example])
    counts = counter.get_flop_counts()["Global"]
    counted = counts.get(torch.ops.aten.mm, 0) + counts.get(torch.ops.aten.addmm, 0)
    geometry, n_tokens = read_geometry(tiny_llama), len(example.ids)
    formula = training_data.training_flops(geometry | {"n_heads": 0}, spec, [n_tokens], example.n_labels)
    first = min(lora + garfa)
    shapes = geometry["linear_shapes"][str(first)]
    spare = sum(math.prod(shapes[name]) for name in ("q_proj", "k_proj", "v_proj"))
    spare += sum(spec.rank * shapes[name][1] for name in ("q_proj", "v_proj") if first in lora)
    assert formula == counted + 2 * n_tokens * spare
    attention = training_data.training_flops(geometry, spec, [n_tokens], example.n_labels) - formula
    width, pairs = geometry["n_heads"] * geometry["head_dim"], n_tokens * (n_tokens + 1) // 2
    assert attention == pairs * width * (4 * 4 + 8 * (4 - first))
