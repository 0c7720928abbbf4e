"""Parameter counts and matched budgets, against closed forms and exhaustive search."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from colocate.budget import VARIANTS, AdapterSpec, count_parameters, match_budget
from colocate.errors import InputError

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SMOLLM2 = {
    str(layer): {
        "q_proj": [576, 576],
        "k_proj": [192, 576],
        "v_proj": [192, 576],
        "o_proj": [576, 576],
        "gate_proj": [1536, 576],
        "up_proj": [1536, 576],
        "down_proj": [576, 1536],
    }
    for layer in range(30)
}
PER_RANK = 2 * (576 + 576) + 2 * (192 + 576) + 3 * (1536 + 576)


def test_count_is_the_closed_form():
    spec = AdapterSpec(range(21, 30), (0, 1, 29), 16, 32, TARGETS)
    assert count_parameters(SMOLLM2, 3, spec) == 9 * 16 * PER_RANK + 3 * 3
    assert count_parameters(SMOLLM2, 3, AdapterSpec((0, 4), (), {0: 1, 4: 5}, 32, ("q_proj",))) == 6 * (576 + 576)
    assert count_parameters(SMOLLM2, 3, AdapterSpec((), (7,))) == 3
    assert count_parameters(SMOLLM2, 3, AdapterSpec(garfa_layers=(7,), temperature_layers=(2, 7))) == 9
    dora = AdapterSpec((0, 4), (), 2, 32, ("q_proj", "down_proj"), variant="dora")
    assert count_parameters(SMOLLM2, 3, dora) == 2 * (2 * (576 + 576 + 1536 + 576) + 576 + 576)


def test_a_matched_budget_deviates_by_less_than_half_a_rank_of_one_layer():
    target = count_parameters(SMOLLM2, 3, AdapterSpec(range(9), range(9), 16, 32, TARGETS))
    spec = match_budget(target, SMOLLM2, 3, range(30), (), TARGETS, 16, 32)
    assert count_parameters(SMOLLM2, 3, spec) - target == -27  # 9 * 16 = 144 ranks on 30 layers, less the alphas
    assert sorted(spec.rank.values()) == [4] * 6 + [5] * 24
    lower = [layer for layer, rank in spec.rank.items() if rank == 4]
    assert max(np.diff(lower)) - min(np.diff(lower)) <= 1, "the lower ranks lie evenly"
    assert {spec.alpha[layer] / spec.rank[layer] for layer in range(30)} == {32 / 16}
    same = match_budget(target, SMOLLM2, 3, range(5, 14), range(9), TARGETS, 16, 32)
    assert (same.rank, same.alpha) == (16, 32)


@pytest.mark.parametrize("temperatures", [(), (0, 3)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_meets_its_budget_at_constant_scale(variant, temperatures):
    target = count_parameters(SMOLLM2, 3, AdapterSpec(range(9), range(9), 16, 32, TARGETS))
    spec = match_budget(
        target, SMOLLM2, 3, range(30), (), TARGETS, 16, 24, temperature_layers=temperatures, variant=variant
    )
    assert (spec.variant, spec.temperature_layers) == (variant, temperatures)
    assert abs(count_parameters(SMOLLM2, 3, spec) - target) <= PER_RANK / 2
    power = 0.5 if variant == "rslora" else 1
    for layer in range(30):
        assert spec.alpha[layer] / spec.rank[layer] ** power == pytest.approx(24 / 16**power, rel=1e-12)


@pytest.mark.parametrize(("n_layers", "hidden"), [(16, 2048), (32, 4096)], ids=["OLMo2-1B", "OLMo2-7B"])
def test_mid_block_as_published_falls_from_scale_2_to_0_375(n_layers, hidden):
    """Alpha 128 whatever the rank: 128 / 64 on all layers; on one segment of five as many ranks on 3 of 16 layers."""
    targets = ("q_proj", "k_proj", "v_proj", "o_proj")
    shapes = {str(layer): dict.fromkeys(targets, [hidden, hidden]) for layer in range(n_layers)}
    everywhere = AdapterSpec(range(n_layers), (), 64, 128, targets)
    target = count_parameters(shapes, 16, everywhere)
    segment = range(n_layers // 5, 2 * n_layers // 5)  # mask 01000
    spec = match_budget(target, shapes, 16, segment, (), targets, 64, 128, mode="as_published")
    assert count_parameters(shapes, 16, spec) == target
    assert sum(spec.rank.values()) == 64 * n_layers
    assert everywhere.alpha / everywhere.rank == 2.0
    assert {round(spec.alpha / rank, 3) for rank in spec.rank.values()} <= {0.374, 0.375}
    sound = match_budget(target, shapes, 16, segment, (), targets, 64, 128)
    assert {sound.alpha_of(layer) / sound.rank_of(layer) for layer in segment} == {2.0}


def test_as_published_keeps_alpha():
    spec = match_budget(144 * PER_RANK, SMOLLM2, 3, range(18), (), TARGETS, 16, 32, mode="as_published", dropout=0.1)
    assert (spec.rank, spec.alpha, spec.dropout) == (8, 32, 0.1)


@pytest.mark.parametrize("seed", range(20))
def test_uneven_layers_match_as_closely_as_exhaustive_search(seed):
    stream = np.random.default_rng(seed)
    widths = stream.choice([16, 24, 40, 100], size=6)
    shapes = {str(layer): {"q_proj": [int(width), 64]} for layer, width in enumerate(widths)}
    costs = [int(width) + 64 for width in widths]
    target = int(stream.integers(sum(costs) + 2, 9 * sum(costs)))
    spec = match_budget(target, shapes, 2, range(6), (0,), ("q_proj",), 8, 16)
    ranks = [spec.rank_of(layer) for layer in range(6)]
    low = (target - 2) // sum(costs)
    assert set(ranks) <= {low, low + 1}
    choices = itertools.product((low, low + 1), repeat=6)
    best = min(abs(sum(r * c for r, c in zip(some, costs, strict=True)) + 2 - target) for some in choices)
    assert abs(count_parameters(shapes, 2, spec) - target) == best


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "name at least one layer"),
        ({"lora_layers": (1, 1), "targets": ("q_proj",)}, r"lora_layers \[1, 1\]: a layer is there twice"),
        ({"garfa_layers": (2, 0, 2)}, r"garfa_layers \[2, 0, 2\]: a layer is there twice"),
        ({"garfa_layers": (-1,)}, "garfa_layers: found .* allowed: layer numbers from 0"),
        ({"garfa_layers": ("1",)}, "garfa_layers: found .* allowed: layer numbers from 0"),
        ({"lora_layers": (1,)}, "targets is empty"),
        ({"lora_layers": (1,), "targets": ("q_proj", "q_proj")}, "a name is there twice"),
        ({"lora_layers": (1,), "targets": ("q_proj",), "rank": 0}, "rank: found 0, allowed: whole numbers from 1"),
        ({"lora_layers": (1,), "targets": ("q_proj",), "rank": 1.5}, "rank: found 1.5"),
        ({"lora_layers": (1,), "targets": ("q_proj",), "alpha": -1}, "alpha: found -1, allowed: numbers above 0"),
        ({"lora_layers": (1, 2), "targets": ("q_proj",), "rank": {1: 4}}, r"rank is for layers \[1\]"),
        ({"lora_layers": (1,), "targets": ("q_proj",), "dropout": 1}, "dropout: found 1"),
        ({"temperature_layers": (3, 3)}, r"temperature_layers \[3, 3\]: a layer is there twice"),
        ({"garfa_layers": (1,), "variant": "lora+"}, r"variant: found 'lora\+', allowed: lora, dora, rslora"),
    ],
)
def test_specs_that_make_no_sense(settings, message):
    with pytest.raises(InputError, match=message):
        AdapterSpec(**settings)


def test_specs_sort_layers_and_read_text_keys():
    spec = AdapterSpec(np.array([5, 2]), (3, 1), {"5": 4, "2": 8}, {"2": 1.5, "5": 3}, ["q_proj"])
    assert (spec.lora_layers, spec.garfa_layers) == ((2, 5), (1, 3))
    assert (spec.rank_of(5), spec.alpha_of(2)) == (4, 1.5)


def test_wrong_counts_and_budgets():
    with pytest.raises(InputError, match="layer 30 does not exist: this model has layers 0 to 29"):
        count_parameters(SMOLLM2, 3, AdapterSpec(garfa_layers=(30,)))
    with pytest.raises(InputError, match="layer 0 has no linear module c_fc; it has q_proj"):
        count_parameters(SMOLLM2, 3, AdapterSpec((0,), targets=("c_fc",)))
    with pytest.raises(InputError, match="rank 1 on 30 layers already trains 305280"):
        match_budget(1000, SMOLLM2, 3, range(30), (), TARGETS, 16, 32)
    with pytest.raises(InputError, match="mode: found 'exact', allowed: constant_scale, as_published"):
        match_budget(10**6, SMOLLM2, 3, range(30), (), TARGETS, 16, 32, mode="exact")
    with pytest.raises(InputError, match="lora_layers is empty"):
        match_budget(10**6, SMOLLM2, 3, (), (1,), TARGETS, 16, 32)
    with pytest.raises(InputError, match="must be one number each"):
        match_budget(10**6, SMOLLM2, 3, (1,), (), TARGETS, {1: 2}, 32)


def test_counting_needs_no_heavy_import():
    code = "import sys, colocate.budget, colocate.adapters; print({'torch', 'peft', 'pandas'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
