"""Learning rates by a small grid: what is tried for which arm, what is chosen, and what is flagged."""

import pytest

from colocate import tuning
from colocate.errors import InputError

TRAINING = {
    "lr_lora": 5e-4,
    "lr_garfa": 1e-2,
    "tuning": {"lr_lora": [1e-4, 5e-4, 2e-3], "lr_garfa": [1e-3, 1e-2, 1e-1]},
}


@pytest.mark.parametrize(
    ("entry", "tried"),
    [
        ({"lora": "a", "garfa": "b"}, {"lr_lora": 3, "lr_garfa": 3}),
        ({"lora": "a"}, {"lr_lora": 3, "lr_garfa": 1}),
        ({"garfa": "a"}, {"lr_lora": 1, "lr_garfa": 3}),
        ({"temperature": "a"}, {"lr_lora": 1, "lr_garfa": 3}),
        ({"lora": "a", "garfa": "b", "lr_lora": 7e-4}, {"lr_lora": 1, "lr_garfa": 3}),
    ],
)
def test_an_arm_is_tried_with_the_rates_that_it_uses(entry, tried):
    pairs = tuning.grid(entry, TRAINING)
    assert len(pairs) == tried["lr_lora"] * tried["lr_garfa"]
    assert {name: len({pair[name] for pair in pairs}) for name in tuning.RATES} == tried
    if "lr_lora" in entry:
        assert {pair["lr_lora"] for pair in pairs} == {7e-4}


def test_nothing_is_tried_where_nothing_is_listed_or_an_arm_names_its_rates():
    off = TRAINING | {"tuning": {"lr_lora": [], "lr_garfa": []}}
    assert tuning.grid({"lora": "a", "garfa": "b"}, off) == []
    assert tuning.grid({"lora": "a", "lr_lora": 1e-3}, TRAINING) == []
    only_lora = TRAINING | {"tuning": {"lr_lora": [1e-4, 5e-4, 2e-3], "lr_garfa": []}}
    assert tuning.grid({"garfa": "a"}, only_lora) == []
    assert [pair["lr_garfa"] for pair in tuning.grid({"lora": "a", "garfa": "b"}, only_lora)] == [1e-2] * 3


def tries(losses) -> list[dict]:
    pairs = tuning.grid({"lora": "a", "garfa": "b"}, TRAINING)
    return [pair | {"loss": loss, "loss_base": 2.0, "n": 8} for pair, loss in zip(pairs, losses, strict=True)]


def test_the_lowest_loss_is_chosen_and_an_edge_of_the_grid_is_flagged():
    inside = tuning.choose("arm", tries([9, 9, 9, 9, 1, 9, 9, 9, 9]), seed=3)
    assert (inside["chosen"], inside["at_edge"], inside["seed"], inside["split"]) == (4, [], 3, "validate")
    assert inside["grid"][4] == {"lr_lora": 5e-4, "lr_garfa": 1e-2, "loss": 1}
    assert tuning.choose("arm", tries([9, 1, 9, 9, 9, 9, 9, 9, 9]), 0)["at_edge"] == ["lr_lora"]
    assert tuning.choose("arm", tries([9, 9, 9, 9, 9, 1, 9, 9, 9]), 0)["at_edge"] == ["lr_garfa"]
    assert tuning.choose("arm", tries([1, 9, 9, 9, 9, 9, 9, 9, 9]), 0)["at_edge"] == ["lr_lora", "lr_garfa"]


def test_a_rate_that_is_not_tuned_has_no_edge():
    pairs = tuning.grid({"lora": "a"}, TRAINING)
    found = tuning.choose("arm", [pair | {"loss": loss} for pair, loss in zip(pairs, (3, 2, 1), strict=True)], 0)
    assert found["at_edge"] == ["lr_lora"]


def test_a_try_that_diverged_is_a_result_and_only_all_of_them_are_an_error():
    some = tries([None, 5, None, 4, 3, None, None, None, None])
    some[0]["why"] = "training diverged in step 3"
    found = tuning.choose("arm", some, 0)
    assert found["chosen"] == 4
    assert found["grid"][0] == {"lr_lora": 1e-4, "lr_garfa": 1e-3, "loss": None, "why": "training diverged in step 3"}
    with pytest.raises(InputError, match="arm colocated diverged with every pair of rates"):
        tuning.choose("colocated", tries([None] * 9), 0)
