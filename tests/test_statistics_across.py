"""Models side by side: the random-effects mean against closed forms and a simulation."""

import numpy as np
import pandas as pd
import pytest

from colocate.statistics import across

GEOMETRY = {"n_params": 1, "attention": "GQA", "n_layers": 4, "n_heads": 4, "n_kv_heads": 2, "rope_type": "default"}


def pooled(z, se) -> dict:
    """From the correlations and intervals that models report."""
    ends = [np.tanh(values) for values in (z, z - 1.959964 * se, z + 1.959964 * se)]
    return across.random_effects(*across.on_z(*ends))


def test_equal_errors_give_the_plain_mean_and_its_t_interval():
    z, se = np.array([-0.2, -0.5, -0.8]), np.full(3, 0.1)
    found = pooled(z, se)
    half = 4.302653 * z.std(ddof=1) / np.sqrt(3)  # t(0.975, 2 df); with equal weights the weights cancel
    assert np.arctanh(found["r_dis"]) == pytest.approx(-0.5, abs=1e-6)
    assert np.arctanh(found["ci_low"]) == pytest.approx(-0.5 - half, abs=1e-4)
    assert found["tau"] == pytest.approx(np.sqrt(z.var(ddof=1) - 0.01), abs=1e-4)


def test_models_that_agree_have_no_spread_between_them():
    assert pooled(np.array([-0.5, -0.51]), np.array([0.2, 0.3]))["tau"] == 0


def test_interval_covers_the_mean_of_models():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        se = rng.uniform(0.1, 0.4, size=8)
        z = rng.normal(-0.5, 0.2, size=8) + rng.normal(0, se)
        found = pooled(z, se)
        covered += found["ci_low"] <= np.tanh(-0.5) <= found["ci_high"]
    assert 0.92 <= covered / 400 <= 0.98


def test_table_of_one_model_has_no_pooled_row_and_two_have_one():
    row = {"primary": True, "r_s": -0.4, "r_dis": -0.5, "ci_low": -0.7, "ci_high": -0.2, "p_depth": 0.2}
    contrasts = pd.DataFrame(
        [["a", "base", "heldout_loss", -0.1], ["b", "base", "heldout_loss", -0.3], ["a", "b", "heldout_loss", -9.0]],
        columns=["arm_a", "arm_b", "outcome", "difference"],
    )
    inputs = [
        {name: GEOMETRY for name in "xy"},
        {name: pd.DataFrame([row]) for name in "xy"},
        {name: contrasts for name in "xy"},
    ]
    one = across.compare(*({"x": part["x"]} for part in inputs))
    assert one["model"].tolist() == ["x"]
    assert one["best_arm"].tolist() == ["b"]
    two = across.compare(*inputs)
    assert two["model"].tolist() == ["x", "y", "random effects"]
    assert two["r_dis"].iloc[2] == pytest.approx(-0.5)
