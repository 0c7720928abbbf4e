"""Layer gain: which layers each training adapts, and profiles against sums done by hand."""

import pytest

from colocate import gain
from colocate.errors import InputError


@pytest.mark.parametrize(
    ("kind", "layer", "width", "expected"),
    [
        ("alone", 2, 3, [2]),
        ("without", 2, 3, [0, 1, 3, 4]),
        ("without", "all", 3, [0, 1, 2, 3, 4]),
        ("block", 2, 3, [1, 2, 3]),
        ("block", 0, 3, [0, 1]),
        ("block", 4, 3, [3, 4]),
        ("block", 2, 4, [1, 2, 3, 4]),
    ],
)
def test_trained_layers(kind, layer, width, expected):
    assert gain.trained_layers(kind, layer, 5, width) == expected


def record(layer, seed, loss_base, loss) -> dict:
    return {"layer": layer, "seed": seed, "loss_base": loss_base, "loss": loss, "n": 10}


@pytest.mark.parametrize("kind", ["alone", "block"])
def test_gain_is_a_mean_over_seeds_with_a_t_interval(kind):
    records = [record(layer, seed, 2.0, 2.0 - layer - seed) for layer in (0, 1) for seed in (0, 1)]
    profile = gain.gain_profile(kind, records)
    assert list(profile.columns) == ["layer", "value", "ci_low", "ci_high", "n"]
    assert profile["value"].tolist() == [0.5, 1.5]
    assert profile["n"].tolist() == [2, 2]
    # t(0.975, 1 df) = 12.706; the standard error of {0, 1} is 0.5.
    assert profile["ci_low"].tolist() == pytest.approx([0.5 - 12.7062 / 2, 1.5 - 12.7062 / 2], abs=1e-3)
    assert gain.gain_profile(kind, records[::2])["ci_low"].isna().all()


def test_without_a_layer_compares_with_all_layers_of_the_same_seed():
    records = [record("all", 0, 9.0, 1.0), record("all", 1, 9.0, 2.0)]
    records += [record(0, 0, 9.0, 1.5), record(0, 1, 9.0, 2.1), record(1, 0, 9.0, 1.0), record(1, 1, 9.0, 1.8)]
    profile = gain.gain_profile("without", records)
    assert profile["layer"].tolist() == [0, 1]
    assert profile["value"].tolist() == pytest.approx([(0.5 + 0.1) / 2, (0.0 - 0.2) / 2])
    with pytest.raises(InputError, match=r"no training of every layer with seeds \[1\]"):
        gain.gain_profile("without", records[:1] + records[2:])
