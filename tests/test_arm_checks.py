"""Arms are refused where a model can never hold them, and only there."""

import json

import pytest
import yaml

from colocate import arm_checks, config, layer_checks
from colocate.errors import InputError
from conftest import ROOT

LAYERS = 6
GEOMETRY = {
    "source": "path:here",
    "rope_layers": [0, 1, 3, 4],
    "linear_shapes": {
        str(layer): {"q_proj": [8, 8], ("down_proj" if layer < 2 else "shared_proj"): [8, 8]} for layer in range(LAYERS)
    },
}
TRAINING = config.complete(yaml.safe_load((ROOT / "config/config.yaml").read_text()))["training"]
RULES = {
    "four": {"top": 4, "by": "profile"},
    "five": {"bottom": 5, "by": "profile"},
    "three": {"top": 0.5, "by": "profile"},
    "every": {"all": True},
    "first": {"layers": [0, 1]},
    "second": {"layers": [1, 2]},
    "moved": {"shift": ["first", 3]},
    "less": {"minus": ["every", "second"]},
    "unknown": {"minus": ["every", "four"]},
    "drawn": {"random": 5},
}


def problems(arms: dict, targets: tuple[str, ...] = ("q_proj",), select: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    study = {
        "models": {"tiny": {"geometry": {"n_layers": LAYERS}}},
        "select": {"models": ["tiny"], "arms": list(select or arms)},
        "arms": arms,
        "layer_sets": RULES,
        "training": TRAINING | {"lora": TRAINING["lora"] | {"targets": list(targets)}},
        "seeds": [0, 1],
    }
    return layer_checks.refused(arm_checks.asked(study, "tiny"), GEOMETRY)


@pytest.mark.parametrize("part", ["garfa", "temperature"])
@pytest.mark.parametrize(
    ("name", "without"),
    [
        *(("four", []), ("five", [2, 5]), ("three", []), ("every", [2, 5]), ("first", []), ("second", [2])),
        *(("moved", []), ("less", [5]), ("unknown", [])),
    ],
)
def test_a_set_is_refused_only_where_no_choice_of_its_layers_would_do(part, name, without):
    found = problems({"mine": {part: name}})
    said = f"found {name}; layers {without} of this model have no rotary position encoding; allowed: a set of layers"
    assert found == ([(f"arms.mine.{part}", f"{said} [0, 1, 3, 4]")] if without else [])


def test_drawn_layers_are_those_that_the_arm_will_have():
    assert problems({"mine": {"garfa": "drawn"}})  # 5 of 6 layers, of which 4 rotate
    assert problems({"mine": {"lora": "drawn"}}) == []


def test_targets_are_named_by_the_key_that_says_them_once():
    assert problems({"one": {"lora": "four"}, "two": {"lora": "four", "garfa": "first"}}, ("q_prj",)) == [
        (
            "training.lora.targets",
            "found q_prj, which no layer of this model has; allowed: q_proj, down_proj, shared_proj",
        )
    ]
    assert problems({"one": {"lora": "first", "targets": ["shared_proj"]}}) == [
        (
            "arms.one.targets",
            "found shared_proj, which layers [0, 1] of set first do not have; allowed: q_proj, down_proj",
        )
    ]
    # Four of the six layers have it: which layers the profile chooses is not known yet.
    assert problems({"one": {"lora": "four", "targets": ["shared_proj"]}}) == []
    assert len(problems({"one": {"lora": "five", "targets": ["shared_proj"]}})) == 1


def test_the_arm_whose_budget_is_matched_counts_too():
    arms = {"one": {"lora": "first", "budget": "match two"}, "two": {"lora": "first", "targets": ["k_proj"]}}
    assert [key for key, _ in problems(arms, select=("one",))] == ["arms.two.targets"]


def test_a_recorded_geometry_is_asked_whenever_the_workflow_is_parsed(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    study = config.complete(yaml.safe_load((ROOT / "config/config.yaml").read_text()))
    monkeypatch.chdir(tmp_path)
    [model] = study["select"]["models"]
    shapes = {str(layer): dict.fromkeys(study["training"]["lora"]["targets"], [8, 8]) for layer in range(30)}
    geometry = {"source": study["models"][model]["source"], "linear_shapes": shapes, "rope_layers": list(range(30))}
    recorded = tmp_path / "results" / study["study"] / model / "geometry.json"
    recorded.parent.mkdir(parents=True)
    recorded.write_text(json.dumps(geometry))
    arm_checks.check(study)

    mine = tmp_path / "mine.yaml"
    mine.write_text("training:\n  lora: {targets: [q_prj]}\n")
    study["training"]["lora"]["targets"] = ["q_prj"]
    with pytest.raises(InputError, match=r"^config: training\.lora\.targets \(.*mine\.yaml:2\): found q_prj, which no"):
        arm_checks.check(study, [mine])
    recorded.write_text(json.dumps(geometry | {"source": "path:another"}))  # what was recorded is of another model
    arm_checks.check(study)
