"""A wrong config stops with the key's path, what was found and what is allowed; a right one is completed."""

import copy
import sys

import pytest
import yaml

from colocate import aliases, config, config_files, config_schema
from colocate.errors import InputError
from colocate.profiles import METRICS
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
        (
            "select/arms",
            ["base", "colocatd"],
            "select.arms: found 'colocatd' (did you mean colocated?); allowed: base, block_1",
        ),
        ("select/arms", ["colocated"], "select.arms: found ['colocated']; allowed: a list with base in it"),
        ("select/profiles", ["sensitivity_all", "rope_local"], "statistics.primary_rope: found 'rope_output'"),
        (
            "layer_sets/sensitive",
            {"top": 3},
            "layer_sets.sensitive: by is missing; add by: a profile, or layer_gain",
        ),
        ("layer_sets/sensitive", {"top": 3, "by": "x"}, "layer_sets.sensitive.by: found 'x'; allowed: curvature"),
        ("layer_sets/sensitive", {}, "layer_sets.sensitive: found 'no rule'; allowed: exactly one of top, bottom"),
        ("layer_sets/middle", {"segments": "0110"}, "layer_sets.middle.segments: found '0110'; it must match"),
        (
            "layer_sets/sensitive",
            {"top": 3, "by": "layer_gain"},
            "select.layer_gain: found []; allowed: a list with alone in it",
        ),
        (
            "layer_sets/sensitive",
            {"top": 3, "by": "layer_gain_block"},
            "select.layer_gain: found []; allowed: a list with block in it",
        ),
        ("select/layer_gain", True, "select.layer_gain: found True; it must be of type array"),
        ("select/layer_gain", ["all"], "select.layer_gain.0: found 'all'; it must be one of alone, without, block"),
        ("select/arm_profiles", ["cka"], "select.arm_profiles.0: found 'cka'; it must be one of linear_cka"),
        ("layer_sets/sensitive_shifted", {"shift": ["sensitive"]}, "layer_sets.sensitive_shifted.shift: found"),
        (
            "layer_sets/sensitive_shifted",
            {"shift": ["x", -2]},
            "layer_sets.sensitive_shifted.shift: found 'x'; allowed",
        ),
        ("layer_sets/sensitive_shifted", {"shift": ["anywhere", -2]}, "sensitive_shifted.shift: found 'anywhere'"),
        (
            "layer_sets/sensitive",
            {"union": ["sensitive_shifted", "first"]},
            "allowed: sets that are not made from this",
        ),
        ("layer_sets/sensitive", {"top": 3, "by": "rope_fisher"}, "select.profiles: found ['sensitivity_all'"),
        ("arms/base", {"lora": "sensitive"}, "arms.base: found {'lora': 'sensitive'}; allowed: {}"),
        ("arms/colocated", {}, "arms.colocated: found {}; allowed: lora, garfa and/or temperature"),
        ("arms/colocated/lora", "nowhere", "arms.colocated.lora: found 'nowhere' (did you mean anywhere?)"),
        ("arms/random/budget", "match base", "arms.random.budget: found 'base'; allowed: block_1"),
        (
            "arms/random/budget",
            "match mid_block",
            "arms.random.budget: found 'match mid_block'; allowed: an arm without",
        ),
        (
            "arms/garfa_sensitive/variant",
            "dora",
            "arms.garfa_sensitive: lora is missing; add lora: a layer set (variant",
        ),
        (
            "arms/lora_sensitive/variant",
            "adalora",
            "arms.lora_sensitive.variant: found 'adalora' (did you mean lora?); it must be one of lora",
        ),
        (
            "arms/lora_sensitive/temperature",
            "nowhere",
            "arms.lora_sensitive.temperature: found 'nowhere' (did you mean",
        ),
        ("arms/lora_sensitive/lora_plus_ratio", 0.5, "lora_plus_ratio: found 0.5; it must be at least 1"),
        ("arms/lora_sensitive/scale", "as_published", "arms.lora_sensitive: budget is missing; add budget: match ARM"),
        ("arms/released-x", {"lora": "sensitive"}, "arms: found 'released-x'; allowed: another name"),
        ("training/tuning/lr_lora", [1e-4, 1e-3], "training.tuning.lr_lora: found [0.0001, 0.001]; allowed: an empty"),
        (
            "training/tuning/lr_garfa",
            [0.1],
            "training.tuning.lr_garfa: found [0.1]; allowed: an empty list, or at least",
        ),
        ("training/tuning/lr_lora", [0, 1, 2], "training.tuning.lr_lora.0: found 0; it must be above 0"),
        ("training/prefix_cache_gib", -1, "training.prefix_cache_gib: found -1; it must be at least 0"),
        (
            "training/lora/variant",
            "qlora",
            "training.lora.variant: found 'qlora' (did you mean lora?); it must be one of lora, dora, rslora",
        ),
        ("gain/block_width", 1, "gain.block_width: found 1; it must be at least 2"),
        ("twins/random", -1, "twins.random: found -1; it must be at least 0"),
        ("profiles/layer_gain", {"metric": "probe"}, "profiles: found 'layer_gain'; allowed: another name"),
        ("profiles/probe/metric", "probing", "profiles.probe.metric: found 'probing'; it must be one of sensitivity"),
        (
            "profiles/rope_output/pool",
            "all",
            "profiles.rope_output: found 'pool'; allowed: settings of rope_influence: ",
        ),
        (
            "profiles/rope_output/pairs",
            "made",
            "profiles.rope_output: found 'pairs'; allowed: settings of rope_influence",
        ),
        ("profiles/sensitivity_all/pairs", "made", "pairs.made: found []; allowed: how to make them: profile sens"),
        (
            "pairs/made",
            [{"kind": "benchmark", "benchmark": "x"}],
            "pairs.made[0].benchmark: found 'x'; allowed: arc_challenge",
        ),
        ("pairs/made", [{"kind": "benchmark"}], "pairs.made.0: key benchmark is missing"),
        (
            "pairs/made",
            [{"kind": "benchmark", "benchmark": "mini_arc", "split": "test"}],
            "pairs.made.0.split: found 'test'; it must be one of train, validation",
        ),
        ("models/smollm2-135m/released", ["x"], "models.smollm2-135m.released: found 'x'; allowed: "),
        ("models/smollm2-135m/source", "http://x", "models.smollm2-135m.source: found 'http://x'; it must match"),
        ("models/smollm2-135m/source", "hf:a/b", "models.smollm2-135m: revision is missing; add revision: the commit"),
        ("models/smollm2-135m/geometry/n_kv_heads", 2, "n_kv_heads: found 2; allowed: a divisor of n_heads = 9"),
        ("models/smollm2-135m/geometry/n_heads", "9", "geometry.n_heads: found '9'; it must be of type integer"),
        ("statistics/reference", "x", "statistics.reference: found 'x'; allowed: base, block_1"),
    ],
)
def test_wrong_configs_name_key_found_and_allowed(study, path, value, said):
    with pytest.raises(InputError) as raised:
        config.complete(put(study, path, value))
    assert str(raised.value).startswith("config: ")
    assert said in str(raised.value)


def test_a_released_fine_tune_must_have_the_same_geometry(study):
    other = copy.deepcopy(study["models"]["smollm2-135m"]) | {"source": "path:elsewhere"}
    study["models"] |= {"tuned": other}
    study["models"]["smollm2-135m"]["released"] = ["tuned"]
    other["geometry"]["vocab"] += 1  # a fine-tune may add tokens
    config.complete(study)
    other["geometry"]["n_layers"] = 32
    with pytest.raises(InputError, match="a model of the same geometry; n_layers differ"):
        config.complete(study)


def test_twins_cannot_make_pairs_of_their_own(study):
    study["twins"] = {"random": 5}
    assert config.complete(study)["twins"] == {"random": 5, "shuffled": 0}
    study["pairs"]["made"] = [{"kind": "own_answers", "benchmark": "mini_math"}]
    study["profiles"]["sensitivity_all"]["pairs"] = "made"
    with pytest.raises(InputError, match="twins: found .* allowed: no twins: sensitivity_all uses pairs made by"):
        config.complete(study)


def test_entries_of_lists_are_completed_too(study):
    study["pairs"]["made"] = [{"kind": "benchmark", "benchmark": "mini_arc"}]
    assert config.complete(study)["pairs"]["made"][0] == {
        "kind": "benchmark",
        "benchmark": "mini_arc",
        "split": "validation",
        "n": 200,
    }


def test_the_schema_offers_exactly_the_registered_metrics_and_their_settings():
    properties = config_schema.load()["properties"]
    profile = properties["profiles"]["additionalProperties"]["properties"]
    of_base = {name: metric for name, metric in METRICS.items() if metric.needs != "arm"}
    assert set(profile["metric"]["enum"]) == set(of_base)
    assert set(properties["select"]["properties"]["arm_profiles"]["items"]["enum"]) == set(METRICS) - set(of_base)
    used = {key for metric in of_base.values() for key in metric.settings}
    assert set(profile) == {"metric", "pairs"} | used


def test_sets_of_an_arm_include_the_parts_of_parts(study):
    study["layer_sets"] |= {
        "outer": {"minus": ["everywhere", "inner"]},
        "inner": {"union": ["sensitive_shifted", "first"]},
    }
    study["arms"]["nested"] = {"lora": "outer"}
    assert config.arm_sets(config.complete(study), "nested") == sorted(
        ["outer", "inner", "everywhere", "sensitive_shifted", "sensitive", "first"]
    )


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
    assert completed["evaluation"] == {"seed": 1234, "batch_size": 16, "batch_tokens": 16384, "sandbox": "auto"}
    assert completed["prices"]["currency"] == "USD"
    assert config.complete(completed)["training"] == completed["training"]


def test_the_default_config_states_every_default_that_the_schema_has(study):
    """config.yaml is the place where users look: what it says must be what the schema would fill in."""
    completed = config.complete(study)
    for part in ("training", "evaluation", "statistics", "prices", "mixture", "gain", "twins"):
        assert study[part] == completed[part], part


def test_every_arm_of_the_catalogue_can_be_selected(study):
    study["select"] |= {"arms": list(study["arms"]), "layer_gain": ["alone"]}
    study["select"]["profiles"] += ["input_output_cka", "input_output_cosine", "gradient_norm"]
    completed = config.complete(study)
    draws = [arm for arm in completed["select"]["arms"] if arm.startswith("random_draws-draw")]
    assert len(draws) == 19
    assert [completed["arms"][arm]["draw"] for arm in draws] == list(range(19))
    assert aliases.of(completed) == {}


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
            if inner.get("items", {}).get("type") == "object":
                walk(inner["items"], f"{path}.{key}[]")
        extra = part.get("additionalProperties")
        if isinstance(extra, dict):
            walk(extra, f"{path}.NAME")
        elif part.get("type") == "object":
            assert extra is False, f"{path} is open"

    walk(config_schema.load(), "")
    sys.path.insert(0, str(ROOT / "config"))
    import make_readme

    written = (ROOT / "config/README.md").read_text()
    assert written == make_readme.INTRODUCTION + config_schema.reference_table(), "run python config/make_readme.py"


def test_the_digest_of_a_file_is_that_of_its_values(tmp_path):
    texts = ["a: 1\nb: {c: 2, d: [1, 2]}\n", "# words\nb:\n  d: [1, 2]\n  c: 2\na: 1\n", "a: 1\nb: {c: 2, d: [2, 1]}\n"]
    found = []
    for text in texts:
        (tmp_path / "file.yaml").write_text(text)
        found.append(config_files.digest(tmp_path / "file.yaml"))
    assert found[0] == found[1] != found[2]
