"""A wrong config stops with the key's path, what was found and what is allowed; a right one is completed."""

import copy
import sys

import pytest
import yaml

from colocate import config
from colocate.errors import InputError
from conftest import ROOT


@pytest.fixture
def study() -> dict:
    return yaml.safe_load((ROOT / "config/config.yaml").read_text())


def put(study: dict, path: str, value) -> dict:
    *parents, last = path.split("/")
    place = study
    for key in parents:
        place = place[key]
    place[last] = value
    return study


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("sed", 1, "the top level: unknown key sed; did you mean seeds? Allowed: arms, benchmarks"),
        ("seeds", None, "seeds: found nothing (null); it must be of type array"),
        ("seeds", [0, 0], "seeds: found [0, 0]; it must not name anything twice"),
        ("training/lr_lora", "fast", "training.lr_lora: found 'fast'; it must be of type number"),
        ("training/clip", 0, "training.clip: found 0; it must be above 0"),
        ("study", "My Study", "study: found 'My Study'; it must match"),
        ("device", "tpu", "device: found 'tpu'; it must be one of auto, cpu, cuda"),
        ("select/arms", ["base", "colocatd"], "select.arms: found 'colocatd'; allowed: base, colocated"),
        ("select/arms", ["colocated"], "select.arms: found ['colocated']; allowed: a list with base in it"),
        ("select/profiles", ["sensitivity_all", "rope_local"], "statistics.primary_rope: found 'rope_output'"),
        (
            "layer_sets/sensitive",
            {"top": 3},
            "layer_sets.sensitive: found 'no by'; allowed: by: a profile, or layer_gain",
        ),
        ("layer_sets/sensitive", {"top": 3, "by": "x"}, "layer_sets.sensitive.by: found 'x'; allowed: rope_fisher"),
        ("layer_sets/sensitive", {}, "layer_sets.sensitive: found 'no rule'; allowed: exactly one of top, bottom"),
        ("layer_sets/middle", {"segments": "0110"}, "layer_sets.middle.segments: found '0110'; it must match"),
        ("layer_sets/sensitive", {"top": 3, "by": "layer_gain"}, "select.layer_gain: found False; allowed: true"),
        ("layer_sets/sensitive", {"top": 3, "by": "rope_fisher"}, "select.profiles: found ['sensitivity_all'"),
        ("arms/base", {"lora": "sensitive"}, "arms.base: found {'lora': 'sensitive'}; allowed: {}"),
        ("arms/colocated", {}, "arms.colocated: found {}; allowed: lora and/or garfa"),
        ("arms/colocated/lora", "nowhere", "arms.colocated.lora: found 'nowhere'; allowed: anywhere"),
        ("arms/random/budget", "match base", "arms.random.budget: found 'base'; allowed: colocated"),
        (
            "arms/random/budget",
            "match mid_block",
            "arms.random.budget: found 'match mid_block'; allowed: an arm without",
        ),
        ("models/smollm2-135m/source", "http://x", "models.smollm2-135m.source: found 'http://x'; it must match"),
        ("models/smollm2-135m/source", "hf:a/b", "models.smollm2-135m: found 'no revision'; allowed: revision"),
        ("models/smollm2-135m/geometry/n_kv_heads", 2, "n_kv_heads: found 2; allowed: a divisor of n_heads = 9"),
        ("models/smollm2-135m/geometry/n_heads", "9", "geometry.n_heads: found '9'; it must be of type integer"),
        ("statistics/reference", "x", "statistics.reference: found 'x'; allowed: base, colocated"),
    ],
)
def test_wrong_configs_name_key_found_and_allowed(study, path, value, said):
    with pytest.raises(InputError) as raised:
        config.complete(put(study, path, value))
    assert str(raised.value).startswith("config: ")
    assert said in str(raised.value)


def test_a_missing_key_is_named(study):
    del study["models"]["smollm2-135m"]["geometry"]["vocab"]
    with pytest.raises(InputError, match=r"models\.smollm2-135m\.geometry: key vocab is missing"):
        config.complete(study)


def test_completion_fills_every_default_and_touches_nothing_else(study):
    del study["training"], study["evaluation"], study["prices"]
    before = copy.deepcopy(study)
    completed = config.complete(study)
    assert study == before
    assert completed["training"]["lora"]["rank"] == 16
    assert completed["evaluation"] == {"seed": 1234, "batch_size": 16, "sandbox": "auto"}
    assert completed["prices"]["currency"] == "USD"
    assert config.complete(completed)["training"] == completed["training"]


def test_the_default_config_states_every_default_that_the_schema_has(study):
    """config.yaml is the place where users look: what it says must be what the schema would fill in."""
    completed = config.complete(study)
    for part in ("training", "evaluation", "statistics", "prices", "mixture"):
        assert study[part] == completed[part], part


def test_every_arm_of_the_catalogue_can_be_selected(study):
    study["select"]["arms"] = list(study["arms"])
    completed = config.complete(study)
    draws = [arm for arm in completed["select"]["arms"] if arm.startswith("random_draws-draw")]
    assert len(draws) == 19
    assert [completed["arms"][arm]["draw"] for arm in draws] == list(range(19))
    assert len(set(config.same_arms(completed).values())) == len(completed["select"]["arms"])


def test_arms_that_are_the_same_behind_their_names_are_one(study):
    study["layer_sets"]["again"] = dict(study["layer_sets"]["sensitive"])
    study["arms"]["twin"] = {"lora": "again", "garfa": "sensitive"}
    study["arms"]["drawn_twin"] = {"lora": "elsewhere", "garfa": "elsewhere"}
    study["layer_sets"]["elsewhere"] = {"random": 0.28}
    study["select"]["arms"] += ["twin", "drawn_twin"]
    same = config.same_arms(config.complete(study))
    assert same["twin"] == "colocated"
    assert same["drawn_twin"] == "drawn_twin"  # another name is another draw


def test_overlays_complete(study):
    from snakemake.utils import update_config

    for overlay in sorted((ROOT / "config").glob("*.yaml")):
        if overlay.name != "config.yaml":
            merged = copy.deepcopy(study)
            update_config(merged, yaml.safe_load(overlay.read_text()))
            assert config.complete(merged)["study"] != study["study"], overlay.name


def test_every_key_has_a_description_and_the_readme_holds_them_all():
    def walk(part: dict, path: str):
        for key, inner in part.get("properties", {}).items():
            assert "description" in inner or "$ref" in inner, f"{path}.{key}"
            walk(inner, f"{path}.{key}")
        extra = part.get("additionalProperties")
        if isinstance(extra, dict):
            walk(extra, f"{path}.NAME")
        elif part.get("type") == "object":
            assert extra is False, f"{path} is open"

    walk(config.schema(), "")
    sys.path.insert(0, str(ROOT / "config"))
    import make_readme

    written = (ROOT / "config/README.md").read_text()
    assert written == make_readme.INTRODUCTION + config.reference_table(), "run python config/make_readme.py"
