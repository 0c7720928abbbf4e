"""Layer-set rules against counts done by hand; draws; arms resolved on a small geometry."""

import math

import pytest
import yaml

from colocate import config, layer_sets
from colocate.errors import InputError
from conftest import ROOT

SHAPES = {"q_proj": [8, 8], "k_proj": [4, 8], "v_proj": [4, 8], "o_proj": [8, 8]}
GEOMETRY = {
    "n_layers": 10,
    "n_kv_heads": 2,
    "rope_layers": list(range(10)),
    "linear_shapes": {str(layer): SHAPES for layer in range(10)},
}
LORA = {"variant": "lora", "rank": 4, "alpha": 8, "dropout": 0.1, "targets": list(SHAPES)}
TRAINING = {"lora": LORA, "lr_lora": 1e-3, "lr_garfa": 1e-2, "lora_plus_ratio": 1}
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
        ({"window": [0.4, 0.3]}, [4, 5, 6]),
        ({"window": [0, 0.3]}, [0, 1, 2]),
        ({"shift": ["b", -2]}, [0, 1]),
        ({"shift": ["a", 0.3]}, [4, 5]),
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


@pytest.mark.parametrize(("distance", "moved"), [(-3, "moved by -3"), (7, "moved by 7"), (0, "moved by 0")])
def test_a_shift_out_of_the_model_says_how_far_one_can_go(distance, moved):
    with pytest.raises(InputError, match=rf"layer_sets\.s: b \[2, 3\] {moved} .*moves from -2 to 6 other than 0"):
        layer_sets.select("s", {"shift": ["b", distance]}, 10, None, {"b": [2, 3]})


def test_a_window_begins_at_a_whole_layer():
    with pytest.raises(InputError, match=r"layer_sets\.s: found first layer 1\.5"):
        layer_sets.select("s", {"window": [1.5, 3]}, 10)


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


def test_two_profiles_that_name_the_same_layers_leave_no_two_by_two():
    """Arms with one part on S and one on R are refused where S = R; others are not."""
    rules = RULES | {"other": {"top": 3, "by": "q"}}
    sets = SETS | {"other": [1, 4, 7]}

    def resolved(entry: dict) -> dict:
        return layer_sets.resolve("arm", 0, entry, None, rules, sets, GEOMETRY, TRAINING)

    with pytest.raises(InputError, match=r"other \(by q\) and top \(by p\) are the same layers \[1, 4, 7\].*smaller"):
        resolved({"lora": "top", "garfa": "other"})
    assert resolved({"lora": "other", "garfa": "other"})["lora_layers"] == [1, 4, 7]
    sets["other"] = [1, 4, 8]
    assert resolved({"lora": "top", "garfa": "other"})["garfa_layers"] == [1, 4, 8]


def test_temperatures_train_as_many_parameters_as_garfa():
    control, garfa = resolve({"temperature": "top"}), resolve({"garfa": "top"})
    assert control["temperature_layers"] == garfa["garfa_layers"] == [1, 4, 7]
    assert (control["lora_layers"], control["garfa_layers"]) == ([], [])
    assert control["n_trainable"] == garfa["n_trainable"] == 3 * 2


def test_an_arms_own_rates_variant_and_ratio_come_before_the_defaults():
    plain = resolve({"lora": "top"})
    assert (plain["variant"], plain["lora_plus_ratio"], plain["lr_lora"]) == ("lora", 1, 1e-3)
    own = resolve({"lora": "top", "variant": "dora", "lora_plus_ratio": 16, "lr_lora": 0.5})
    assert (own["variant"], own["lora_plus_ratio"], own["lr_lora"]) == ("dora", 16, 0.5)
    magnitudes = 3 * sum(rows for rows, _ in SHAPES.values())
    assert own["n_trainable"] == plain["n_trainable"] + magnitudes


# ------------------------------------------------------------------------------------------ the catalogue of the config

# Layers, KV heads, shapes (out, in) of a layer: SmolLM2 has 9 query and 3 KV heads of 64, Llama 3.1 8B 32 and 8 of 128.
MODELS = {
    "smollm2": (30, 3, {"q": (576, 576), "kv": (192, 576), "o": (576, 576), "up": (1536, 576), "down": (576, 1536)}),
    "llama31": (
        32,
        8,
        {"q": (4096,) * 2, "kv": (1024, 4096), "o": (4096,) * 2, "up": (14336, 4096), "down": (4096, 14336)},
    ),
}
PROJECTIONS = {"q": "q", "k": "kv", "v": "kv", "o": "o", "gate": "up", "up": "up", "down": "down"}


def geometry_of(model: str) -> dict:
    n_layers, n_kv_heads, shapes = MODELS[model]
    layer = {f"{name}_proj": list(shapes[kind]) for name, kind in PROJECTIONS.items()}
    return {
        "n_layers": n_layers,
        "n_kv_heads": n_kv_heads,
        "rope_layers": list(range(n_layers)),
        "linear_shapes": {str(number): layer for number in range(n_layers)},
    }


@pytest.fixture(scope="module")
def catalogue() -> dict:
    study = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    study["select"] |= {"arms": list(study["arms"]), "layer_gain": ["alone"]}
    study["select"]["profiles"] += ["input_output_cka", "input_output_cosine", "gradient_norm"]
    return config.complete(study)


def sets_of(study: dict, n_layers: int) -> dict[str, list[int]]:
    """Every set of the catalogue, by profiles of which S are late layers, R early ones, and the rest in between."""
    late = {layer: float(layer) for layer in range(n_layers)}
    profiles = {
        "sensitivity_all": late | {n_layers - 1: -1.0},  # the last layer is not in S
        "rope_output": {layer: -value for layer, value in late.items()},
        "input_output_cka": {layer: math.cos(layer) for layer in late},
        "input_output_cosine": {layer: math.sin(3 * layer) for layer in late},
        "gradient_norm": {layer: -abs(layer - n_layers / 2 + 0.3) for layer in late},
        "layer_gain": {layer: math.cos(2 * layer) for layer in late},
    }
    rules = {name: rule for name, rule in study["layer_sets"].items() if "random" not in rule}
    found: dict[str, list[int]] = {}
    for name in sorted(rules, key=lambda name: "shift" in rules[name]):
        found[name] = layer_sets.select(name, rules[name], n_layers, profiles.get(rules[name].get("by")), found)
    return found


def resolved_catalogue(study: dict, model: str, seed: int = 0) -> dict[str, dict]:
    geometry, arms = geometry_of(model), study["arms"]
    sets = sets_of(study, geometry["n_layers"])
    return {
        name: layer_sets.resolve(
            name,
            seed,
            arms[name],
            arms[arms[name]["budget"].removeprefix("match ")] if "budget" in arms[name] else None,
            study["layer_sets"],
            sets,
            geometry,
            study["training"],
        )
        for name in arms
        if name != "base"
    }


@pytest.mark.parametrize("model", sorted(MODELS))
def test_every_arm_of_the_catalogue(catalogue, model):
    """Layers by the rule, parameters counted anew from the definition, budgets as close as ranks allow."""
    n_layers, n_kv_heads, shapes = MODELS[model]
    sizes = {f"{name}_proj": shapes[kind] for name, kind in PROJECTIONS.items()}
    everywhere, arms = list(range(n_layers)), resolved_catalogue(catalogue, model)
    k = round(0.28 * n_layers)
    late, early = everywhere[-k - 1 : -1], everywhere[:k]
    expected = {  # (LoRA, GARFA, temperatures)
        "colocated": (late, late, []),
        "lora_sensitive_garfa_positional": (late, early, []),
        "lora_positional_garfa_sensitive": (early, late, []),
        "positional_both": (early, early, []),
        "lora_sensitive": (late, [], []),
        "garfa_sensitive": ([], late, []),
        "garfa_everywhere": ([], everywhere, []),
        "garfa_shifted": ([], [layer - 2 for layer in late], []),
        "garfa_shifted_2": ([], [layer - 4 for layer in late], []),
        "garfa_shifted_3": ([], [layer - 8 for layer in late], []),
        "temperature_sensitive": ([], [], late),
        "lora_temperature_sensitive": (late, [], late),
        "standard_lora": (everywhere, [], []),
        "standard_lora_full_rank": (everywhere, [], []),
        "early": (early, [], []),
        "late": (everywhere[-k:], [], []),
        "block_1": (early, [], []),
        "block_7": (everywhere[-k:], [], []),
        "mid_block": (everywhere[n_layers // 5 : 4 * n_layers // 5], [], []),
    }
    for name, parts in expected.items():
        assert tuple(arms[name][f"{part}_layers"] for part in layer_sets.PARTS) == parts, name
    assert {len(arms[f"block_{number}"]["lora_layers"]) for number in range(1, 8)} == {k}
    assert [arms[f"segment_{number}"]["lora_layers"] for number in range(1, 6)] == [
        everywhere[i * n_layers // 5 : (i + 1) * n_layers // 5] for i in range(5)
    ]
    assert len(arms["top_cka"]["lora_layers"]) == n_layers // 2
    assert [len(arms[name]["lora_layers"]) for name in ("low_cosine", "top_gradient", "top_gain", "spaced")] == [k] * 4
    draws = [arms[f"random_draws-draw{number}"] for number in range(19)]
    assert len({tuple(arm["lora_layers"]) for arm in draws}) == 19
    assert all(arm["lora_layers"] == arm["garfa_layers"] for arm in draws)

    for name, arm in arms.items():
        ranks = (
            arm["rank"] if isinstance(arm["rank"], dict) else dict.fromkeys(map(str, arm["lora_layers"]), arm["rank"])
        )
        unit = sum(sum(sizes[target]) for target in arm["targets"])
        counted = sum(ranks[str(layer)] * unit for layer in arm["lora_layers"])
        counted += n_kv_heads * (len(arm["garfa_layers"]) + len(arm["temperature_layers"]))
        if arm["variant"] == "dora":
            counted += len(arm["lora_layers"]) * sum(sizes[target][0] for target in arm["targets"])
        assert arm["n_trainable"] == counted, name
        entry = catalogue["arms"][name]
        if "budget" not in entry:
            assert arm["budget_deviation"] == 0, name
            continue
        target = arms[entry["budget"].removeprefix("match ")]["n_trainable"]
        assert arm["budget_deviation"] == arm["n_trainable"] - target, name
        assert abs(arm["budget_deviation"]) <= unit / 2, f"{name}: half of one rank on one layer is as close as it gets"
        assert max(ranks.values()) - min(ranks.values()) <= 1, name


@pytest.mark.parametrize("model", sorted(MODELS))
def test_as_published_the_scale_falls_with_the_rank_and_beside_it_it_does_not(catalogue, model):
    arms = resolved_catalogue(catalogue, model)

    def numbers(name: str, key: str) -> list[float]:
        value, layers = arms[name][key], arms[name]["lora_layers"]
        return list(value.values()) if isinstance(value, dict) else [value] * len(layers)

    def scales(name: str) -> list[float]:
        return [alpha / rank for alpha, rank in zip(numbers(name, "alpha"), numbers(name, "rank"), strict=True)]

    published, sound = "mid_block_as_published", "mid_block_same_scale"
    assert set(numbers(published, "alpha")) == {128}
    assert numbers(published, "rank") == numbers(sound, "rank")
    assert scales("standard_lora_as_published") == [2.0] * MODELS[model][0]
    assert scales(sound) == pytest.approx([2.0] * len(arms[sound]["lora_layers"]))
    assert max(scales(published)) < 1.25  # rank 64 of all layers on three fifths of them is about 107
    assert arms[published]["n_trainable"] == arms[sound]["n_trainable"]
