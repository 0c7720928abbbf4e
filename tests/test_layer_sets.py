"""Layer-set rules against counts done by hand; draws; arms resolved on a small geometry."""

import math

import pytest

from colocate import layer_sets
from colocate.errors import InputError

SHAPES = {"q_proj": [8, 8], "k_proj": [4, 8], "v_proj": [4, 8], "o_proj": [8, 8]}
GEOMETRY = {
    "n_layers": 10,
    "n_kv_heads": 2,
    "rope_layers": list(range(10)),
    "linear_shapes": {str(layer): SHAPES for layer in range(10)},
}
TRAINING = {"lora": {"rank": 4, "alpha": 8, "dropout": 0.1, "targets": list(SHAPES)}, "lr_lora": 1e-3, "lr_garfa": 1e-2}
RULES = {"top": {"top": 3, "by": "p"}, "all": {"all": True}, "drawn": {"random": 3}}
SETS = {"top": [1, 4, 7], "all": list(range(10))}


def test_counts_are_absolute_from_one_up_and_fractions_of_the_depth_below():
    assert layer_sets.count(0.28, 32) == 9
    assert layer_sets.count(0.28, 30) == 8
    assert layer_sets.count(0.01, 30) == 1
    assert layer_sets.count(10, 30) == 10
    for wrong in (31, 2.5):
        with pytest.raises(InputError, match="up to 30 layers"):
            layer_sets.count(wrong, 30)


def test_segments_are_those_of_the_paper():
    # Zhao et al.: segment i of L layers is int(iL/5) to int((i+1)L/5)-1; for 32 layers the middle three are 6 to 24.
    assert layer_sets.segments("01110", 32) == list(range(6, 25))
    assert layer_sets.segments("00001", 32) == list(range(25, 32))
    assert layer_sets.segments("11111", 16) == list(range(16))
    assert layer_sets.segments("01000", 16) == [3, 4, 5]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"depth": [0.0, 0.3]}, [0, 1, 2]),
        ({"depth": [0.7, 1.0]}, [7, 8, 9]),
        ({"spaced": 5}, [1, 3, 5, 7, 9]),
        ({"spaced": 2}, [2, 7]),
        ({"window": [4, 3]}, [4, 5, 6]),
        ({"layers": [9, 0]}, [0, 9]),
        ({"all": True}, list(range(10))),
        ({"union": ["a", "b"]}, [1, 2, 3]),
        ({"minus": ["a", "b"]}, [1]),
        ({"top": 2, "by": "p"}, [8, 9]),
        ({"bottom": 0.2, "by": "p"}, [0, 1]),
    ],
)
def test_rules(entry, expected):
    profile = {layer: float(layer) for layer in range(10)}
    assert layer_sets.select("s", entry, 10, profile, {"a": [1, 2], "b": [2, 3]}) == expected


def test_what_would_make_a_set_an_accident_is_refused_by_name():
    with pytest.raises(InputError, match=r"layer_sets\.s by p: layers \[1, 2\] are tied"):
        layer_sets.select("s", {"top": 2, "by": "p"}, 4, {0: 9.0, 1: 5.0, 2: 5.0, 3: 1.0})
    with pytest.raises(InputError, match=r"layers \[2\] have no finite value"):
        layer_sets.select("s", {"top": 1, "by": "p"}, 3, {0: 9.0, 1: 5.0, 2: math.nan})
    with pytest.raises(InputError, match=r"layers \[12\] do not exist; the model has layers 0 to 9"):
        layer_sets.select("s", {"layers": [1, 12]}, 10)
    with pytest.raises(InputError, match="gives no layer"):
        layer_sets.select("s", {"minus": ["a", "a"]}, 10, None, {"a": [1]})


def test_a_tie_inside_the_set_is_no_tie_at_its_edge():
    assert layer_sets.select("s", {"top": 2, "by": "p"}, 4, {0: 5.0, 1: 5.0, 2: 4.0, 3: 4.0}) == [0, 1]


def test_draws_differ_by_seed_number_and_name_and_repeat_themselves():
    draws = {
        (seed, number, name): tuple(layer_sets.draw(name, {"random": 5}, 40, seed, number))
        for seed in (0, 1)
        for number in (0, 1)
        for name in ("a", "b")
    }
    assert len(set(draws.values())) == len(draws)
    assert tuple(layer_sets.draw("a", {"random": 5}, 40, 0, 0)) == draws[0, 0, "a"]
    assert all(len(set(layers)) == 5 and list(layers) == sorted(layers) for layers in draws.values())


def resolve(entry, matched=None, seed=0):
    return layer_sets.resolve("arm", seed, entry, matched, RULES, SETS, GEOMETRY, TRAINING)


def test_parameters_of_a_resolved_arm_counted_by_hand():
    resolved = resolve({"lora": "top", "garfa": "top"})
    per_layer = 4 * sum(rows + columns for rows, columns in SHAPES.values())
    assert resolved["n_trainable"] == 3 * per_layer + 3 * 2
    assert resolved["budget_deviation"] == 0
    assert (resolved["lora_layers"], resolved["garfa_layers"]) == ([1, 4, 7], [1, 4, 7])


def test_a_matched_budget_comes_close_and_says_by_how_much():
    reference = resolve({"lora": "top", "garfa": "top"})
    matched = resolve({"lora": "all"}, {"lora": "top", "garfa": "top"})
    assert matched["n_trainable"] == reference["n_trainable"] + matched["budget_deviation"]
    assert abs(matched["budget_deviation"]) <= 28  # half of one rank on one layer: 56 parameters
    assert matched["dropout"] == TRAINING["lora"]["dropout"]


def test_a_random_arm_uses_one_draw_for_lora_and_garfa():
    resolved = resolve({"lora": "drawn", "garfa": "drawn"}, seed=3)
    assert resolved["lora_layers"] == resolved["garfa_layers"] == layer_sets.draw("drawn", {"random": 3}, 10, 3, 0)


def test_layers_without_rope_are_refused_as_garfa_targets():
    geometry = GEOMETRY | {"rope_layers": [0, 1, 2, 3, 5, 6, 7, 8, 9]}
    with pytest.raises(InputError, match=r"layers \[4\] of this model have no rotary"):
        layer_sets.resolve("arm", 0, {"garfa": "top"}, None, RULES, SETS, geometry, TRAINING)


def test_layer_gain_is_a_mean_over_seeds_with_a_t_interval():
    gains = [{"layer": layer, "seed": seed, "gain": layer + seed} for layer in (0, 1) for seed in (0, 1)]
    profile = layer_sets.gain_profile(gains)
    assert list(profile.columns) == ["layer", "value", "ci_low", "ci_high", "n"]
    assert profile["value"].tolist() == [0.5, 1.5]
    # t(0.975, 1 df) = 12.706; the standard error of {0, 1} is 0.5.
    assert profile["ci_low"].tolist() == pytest.approx([0.5 - 12.7062 / 2, 1.5 - 12.7062 / 2], abs=1e-3)
    assert layer_sets.gain_profile(gains[::2])["ci_low"].isna().all()
