"""Arms are refused where a model can never hold them, and only there."""

import pytest

from colocate import arm_checks

LAYERS = 6
GEOMETRY = {
    "n_layers": LAYERS,
    "rope_layers": [0, 1, 3, 4],
    "linear_shapes": {
        str(layer): {"q_proj": [8, 8], ("down_proj" if layer < 2 else "shared_proj"): [8, 8]} for layer in range(LAYERS)
    },
}
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


def problems(arms: dict, targets: tuple[str, ...] = ("q_proj",)) -> list[str]:
    return arm_checks.problems(arms, RULES, list(targets), GEOMETRY)


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
    assert len(found) == bool(without)
    assert all(f"arms.mine.{part}: found {name}; layers {without} of this model have no" in line for line in found)


def test_drawn_layers_are_those_that_the_arm_will_have():
    [found] = problems({"mine": {"garfa": "drawn", "seeds": [0, 1]}})  # 5 of 6 layers, of which 4 rotate
    assert "layers [2" in found or "layers [5]" in found
    assert problems({"mine": {"lora": "drawn", "seeds": [0, 1]}}) == []


def test_targets_are_named_by_the_key_that_says_them_once():
    assert problems({"one": {"lora": "four"}, "two": {"lora": "every"}}, ("q_prj",)) == [
        "training.lora.targets: found q_prj, which no layer of this model has (did you mean q_proj?); "
        "allowed: q_proj, down_proj, shared_proj"
    ]
    assert problems({"one": {"lora": "first", "targets": ["shared_proj"]}}) == [
        "arms.one.targets: found shared_proj, which layers [0, 1], which arm one adapts, do not have; "
        "allowed: q_proj, down_proj"
    ]
    # Four of the six layers have it: which layers the profile chooses is not known yet.
    assert problems({"one": {"lora": "four", "targets": ["shared_proj"]}}) == []
    assert len(problems({"one": {"lora": "five", "targets": ["shared_proj"]}})) == 1
