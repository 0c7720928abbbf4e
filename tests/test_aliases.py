"""One arm under two names is found whatever its entry spells out, and arms that differ in anything stay apart."""

import copy

import pytest
import yaml
from snakemake.utils import update_config

from colocate import aliases, config, layer_sets
from conftest import ROOT

QKVO = ["q_proj", "k_proj", "v_proj", "o_proj"]
SEVEN = [*QKVO, "gate_proj", "up_proj", "down_proj"]
SHAPES = {str(layer): {name: [64, 48 + 8 * layer] for name in SEVEN} for layer in range(6)}
GEOMETRY = {"n_layers": 6, "n_kv_heads": 2, "rope_layers": list(range(6)), "linear_shapes": SHAPES, "n_params": 9}


@pytest.fixture
def study() -> dict:
    return yaml.safe_load((ROOT / "config/config.yaml").read_text())


def same(study: dict, **arms) -> dict[str, str]:
    """Aliases of a study that selects `arms` besides base and its reference, in this order."""
    study["arms"] |= arms
    study["select"]["arms"] = ["base", "colocated", *arms]
    study["statistics"]["primary_against"] = []
    return aliases.of(config.complete(study))


def resolved(study: dict, arm: str) -> dict:
    """What training would read for an arm without sets that are drawn or made from profiles."""
    study = config.complete(study)
    entry = study["arms"][arm]
    matched = study["arms"][entry["budget"].removeprefix("match ")] if "budget" in entry else None
    rules = {name: study["layer_sets"][name] for name in config.arm_sets(study, arm)}
    sets = {name: layer_sets.select(name, rule, 6) for name, rule in rules.items()}
    return layer_sets.resolve("arm", 0, entry, matched, rules, sets, GEOMETRY, study["training"])


def test_names_of_layer_sets_do_not_tell_arms_apart_but_two_random_sets_are_two_draws(study):
    study["layer_sets"] |= {"again": dict(study["layer_sets"]["sensitive"]), "elsewhere": {"random": 0.28}}
    twins = {"twin": {"lora": "again", "garfa": "sensitive"}, "drawn": {"lora": "elsewhere", "garfa": "elsewhere"}}
    assert same(study, **twins, random=study["arms"]["random"]) == {"twin": "colocated"}


@pytest.mark.parametrize(
    "spelled",
    [
        {"rank": 16, "alpha": 32, "targets": SEVEN},
        {"lr_lora": 5.0e-4, "lora_plus_ratio": 1, "variant": "lora"},
        {"seeds": [0, 1], "measure": "all", "models": ["smollm2-135m"]},
        {"budget": "match plain"},
        {"budget": "match plain", "scale": "as_published"},
        {"budget": "match wordy", "rank": 16},
    ],
)
def test_what_an_entry_spells_out_does_not_make_it_another_arm(study, spelled):
    study["arms"]["wordy"] = {"lora": "everywhere", "rank": 16, "alpha": 8}
    found = same(study, plain={"lora": "everywhere"}, again={"lora": "everywhere"} | spelled)
    assert found == {"again": "plain"}
    assert resolved(study, "again") == resolved(study, "plain")


@pytest.mark.parametrize(
    "other",
    [
        {"rank": 8},
        {"alpha": 16},
        {"targets": QKVO},
        {"lr_lora": 1.0e-4},
        {"variant": "dora"},
        {"seeds": [0]},
        {"measure": "heldout"},
        {"budget": "match half"},
        {"garfa": "everywhere"},
    ],
)
def test_arms_that_differ_in_anything_are_two(study, other):
    study["arms"]["half"] = {"lora": "everywhere", "rank": 8}
    assert same(study, plain={"lora": "everywhere"}, again={"lora": "everywhere"} | other) == {}


def test_arms_matched_against_as_much_are_one_and_their_scale_still_counts(study):
    all_layers = {"lora": "everywhere", "rank": 4}
    study["arms"] |= {"four": all_layers, "four_too": all_layers | {"alpha": 1, "lr_lora": 1.0e-3}}
    block = {"lora": "middle", "budget": "match four"}
    again, fixed = block | {"budget": "match four_too"}, block | {"scale": "as_published"}
    found = same(study, block=block, again=again, fixed=fixed)
    assert found == {"again": "block"}


def test_an_entry_that_names_its_rate_is_not_the_arm_whose_rate_is_tuned(study):
    study["training"]["tuning"]["lr_lora"] = [1.0e-4, 5.0e-4, 1.0e-3]
    lora = {"lora": "everywhere"}
    assert same(study, tuned=lora, fixed=lora | {"lr_lora": 5.0e-4}, again=lora) == {"again": "tuned"}


def test_no_overlay_trains_an_arm_twice(study):
    """What Zhao et al. compare their masks with is in their own study the arm that has their budget anyway."""
    found = {}
    for path in sorted((ROOT / "config").glob("*.yaml")):
        merged = copy.deepcopy(study)
        update_config(merged, yaml.safe_load(path.read_text()))
        found[path.stem] = aliases.of(config.complete(merged))
    assert {name: names for name, names in found.items() if names} == {
        "olmo2": {"standard_lora_full_rank": "standard_lora"}
    }
