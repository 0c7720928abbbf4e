"""The specification curve: its choices, its joint test by simulation, the shares of variance against closed forms."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import fft, stats

from colocate.errors import InputError
from colocate.statistics import nulls, specifications, surrogates

ROOT = Path(__file__).parents[1]
FROZEN = ROOT / "data/published/specification.yaml"
L = 30
SETTINGS = {
    "sensitivity_all": {"metric": "sensitivity", "pool": "all"},
    "rope_output": {"metric": "rope_influence", "method": "output", "log_alpha": 0.693, "text_tokens": 128},
    "rope_local": {"metric": "rope_influence", "method": "local", "log_alpha": 0.1, "text_tokens": 512},
}
PRIMARY = ("sensitivity_all", "rope_output")


def variant(name: str, values: np.ndarray, kv_head: int = -1) -> pd.DataFrame:
    columns = {"variant": name, "item": "mean", "layer": range(L), "kv_head": kv_head, "value": values}
    return pd.DataFrame(columns)


@pytest.fixture(scope="module")
def study():
    """Sensitivity with a near copy and controls like it; RoPE with signs, heads and a noise floor."""
    rng = np.random.default_rng(0)
    x, y = np.exp(np.sin(np.arange(L) / 4)), np.exp(rng.normal(size=(3, L)))
    other, (near, wrong) = np.exp(rng.normal(size=L)), x * np.exp(1e-6 * rng.normal(size=(2, L)))
    profiles = {
        "sensitivity_all": pd.DataFrame({"layer": range(L), "value": x}),
        "rope_output": pd.DataFrame({"layer": range(L), "value": y[0]}),
        "rope_local": pd.DataFrame({"layer": range(L), "value": y[1]}),
        "curvature": pd.DataFrame({"layer": range(L), "value": y[2]}),
    }
    sensitivity = [("task/all/state", x), ("task/answer/state", near), ("core/all/state", other)]
    sensitivity += [("wrong_wrong/all/state", wrong), ("swap/unit/increment", y[2])]
    variants = {
        "sensitivity_all": pd.concat([variant(*found) for found in sensitivity]),
        "rope_output": pd.concat([variant("output_plus", y[2]), variant("noise_floor", other)]),
        "rope_local": pd.concat([variant("local", y[1]), variant("local", other, kv_head=0)]),
    }
    return profiles, variants


def curve(study, **changes):
    settings = SETTINGS | {"curvature": {"metric": "curvature"}} | changes
    return specifications.curve(*study, settings, PRIMARY, specifications.read_frozen(FROZEN), n_surrogates=199)


def test_every_reading_is_a_row_with_its_choices(study):
    table, summary = curve(study)
    assert list(table.columns) == specifications.COLUMNS
    assert set(table["sensitivity"]) == {"sensitivity_all"}
    assert (
        len(table) == 5 * 3
    )  # the variant task/all/state is the profile itself; noise floor and heads are no readings
    assert summary["n"] == 15
    rows = table.set_index(["sensitivity_variant", "rope", "rope_variant"])
    row = rows.loc[("swap/unit/increment", "rope_output", "output_plus")]
    assert (row["contrast"], row["pool"], row["form"], row["sign"]) == ("swap", "unit", "increment", "plus")
    row = rows.loc[("as printed", "rope_local", "as printed")]
    assert (row["method"], row["log_alpha"], row["text_tokens"], row["sign"]) == ("local", 0.1, 512, "both")
    expected = stats.spearmanr(*(study[0][name]["value"] for name in PRIMARY)).statistic
    assert table.loc[table["primary"], "r_s"].tolist() == [pytest.approx(expected)]


def test_near_duplicates_collapse_and_controls_are_shown_but_not_tested(study):
    table, summary = curve(study)
    rows = table[table["rope_variant"] == "as printed"].set_index(["sensitivity_variant", "rope"])
    near = rows.loc[("task/answer/state", "rope_output")]
    assert near["collapsed_into"] == "sensitivity_all as printed | rope_output as printed"
    control = rows.loc[("wrong_wrong/all/state", "rope_output")]
    assert (control["collapsed_into"], control["tested"]) == ("", False)
    assert summary["n_collapsed"] == 3
    assert summary["n_tested"] == summary["joint"]["n_specifications"] == 3 * 3
    assert table.loc[table["tested"], "collapsed_into"].eq("").all()


def test_published_and_frozen_readings_are_marked(study):
    table, summary = curve(study)
    frozen = table[table["frozen"]]
    assert frozen["primary"].tolist() == [True]
    assert set(table.loc[table["published"], "sensitivity_variant"]) == {"core/all/state"}
    assert table["published"].sum() == 3  # RoPE influence is not defined in print: any reading may be the paper's
    assert summary["primary_is_frozen"] is True
    assert summary["specification_sha256"] == hashlib.sha256(FROZEN.read_bytes()).hexdigest()


def test_another_primary_pair_is_marked_as_not_frozen(study):
    changed = SETTINGS["rope_output"] | {"text_tokens": 64}
    _, summary = curve(study, rope_output=changed)
    assert summary["primary_is_frozen"] is False
    table = pd.DataFrame({"primary": [True, False], "note": ["seen", ""]})
    marked = specifications.mark_primary(table, summary)
    assert marked["note"].tolist() == ["the primary pair is not the frozen specification; seen", ""]


def test_default_study_has_the_frozen_specification():
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    frozen = specifications.read_frozen(FROZEN)["frozen"]
    for key, metric in (("primary_sensitivity", "sensitivity"), ("primary_rope", "rope_influence")):
        entry = config["profiles"][config["statistics"][key]]
        assert entry["metric"] == metric
        assert specifications.choices_of(entry, specifications.AS_PRINTED) == frozen[metric]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [("pool: all", "pull: all", "allowed: contrast, pool"), ("frozen:", "thawed:", "frozen: found None")],
)
def test_a_wrong_specification_file_is_refused(tmp_path, old, new, message):
    path = tmp_path / "specification.yaml"
    path.write_text(FROZEN.read_text().replace(old, new))
    with pytest.raises(InputError, match=message):
        specifications.read_frozen(path)


# The joint test


def readings(profiles: np.ndarray) -> list[dict]:
    return [{"values": pd.Series(row), "choices": {}} for row in profiles]


def alike(rng, profile: np.ndarray, n: int) -> list[dict]:
    """n readings of one quantity: the profile with smooth differences between them."""
    return readings(profile + 0.5 * nulls.smooth(3)(rng, n, L))


def test_one_draw_of_signs_flips_every_reading():
    rng = np.random.default_rng(1)
    basis, signs = surrogates.depth_basis(np.arange(L, dtype=float), 1), surrogates.random_signs(50, L, 3)
    x, y = (surrogates.residuals(rng.normal(size=(n, L)), basis) for n in (2, 3))
    found = specifications.surrogate_correlations(x, y, signs, basis)
    assert found.shape == (51, 6)
    for b, i, j in ((0, 1, 2), (7, 0, 1), (50, 1, 0)):
        flipped = y[j] if b == 0 else fft.idct(signs[b - 1] * fft.dct(y[j], norm="ortho"), norm="ortho")
        expected = np.corrcoef(x[i], surrogates.residuals(flipped, basis))[0, 1]
        assert found[b, 3 * i + j] == pytest.approx(expected, abs=1e-10)


def test_one_specification_has_the_p_value_of_its_pair():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, L))
    joint = specifications.joint_test(readings(x[None]), readings(y[None]), 499, seed=0)
    scores, basis = map(surrogates.normal_scores, (x, y)), surrogates.depth_basis(np.arange(L, dtype=float), 1)
    assert joint["p"] == pytest.approx(surrogates.surrogate_p(*scores, surrogates.random_signs(499, L, 0), basis))


@pytest.mark.parametrize("name", ["smooth, length 3", "trends + smooth noise"])
def test_size_of_the_joint_test_and_failure_of_the_plain_p(name):
    """Independent quantities, each in four readings: 5 % of joint p below 0.05, of the plain p of one pair far more."""
    rng, found = np.random.default_rng(5), []
    for _ in range(240):
        x, y = (alike(rng, nulls.NULLS[name](rng, 1, L)[0], 4) for _ in range(2))
        joint = specifications.joint_test(x, y, 199, seed=0)
        plain = stats.spearmanr(x[0]["values"], y[0]["values"]).pvalue
        found.append([joint["p"], joint["abs_median_r"]["p"], joint["share_significant"]["p"], plain])
    rates = (np.array(found) <= 0.05).mean(axis=0)
    assert (rates[:3] <= 0.10).all()
    assert rates[3] >= 0.2


def test_power_of_the_joint_test():
    rng, found = np.random.default_rng(6), []
    for _ in range(40):
        x = nulls.autoregressive(0.5)(rng, 1, L)[0]
        joint = specifications.joint_test(alike(rng, x, 4), alike(rng, -x, 4), 199, seed=0)
        found.append(joint["p"] <= 0.05)
        assert joint["median_r"] < 0
    assert np.mean(found) >= 0.9


def test_too_few_layers_have_no_joint_test():
    few = [{"values": pd.Series([1.0, 3, 2, 5]), "choices": {}}]
    assert specifications.joint_test(few, few, 99, seed=0) == {}


# Shares of variance


def choices(**columns) -> pd.DataFrame:
    table = pd.DataFrame(columns)
    return table.assign(**{name: "one" for name in specifications.CHOICES if name not in table})


def test_shares_of_a_balanced_design_are_its_sums_of_squares():
    pools, forms = np.repeat(["a", "b", "c"], 4), np.tile(["s", "i"], 6)
    effect = pd.Series(pools).map({"a": -1.0, "b": 0.0, "c": 1.0}) + pd.Series(forms).map({"s": 0.5, "i": -0.5})
    rest = np.tile([0.2, 0.2, -0.2, -0.2], 3)  # neither by pool nor by form
    total = 12 * (2 / 3) + 12 * 0.25 + 12 * 0.04
    found = specifications.shares_of_variance(choices(pool=pools, form=forms, r_s=effect + rest))
    assert found["choices"]["pool"]["unique"] == pytest.approx(8 / total)
    assert found["choices"]["pool"]["alone"] == pytest.approx(8 / total)
    assert found["choices"]["form"]["unique"] == pytest.approx(3 / total)
    assert found["together"] == pytest.approx(11 / total)
    assert set(found["choices"]) == {"pool", "form"}


def test_choices_that_go_together_share_what_neither_explains_alone():
    found = specifications.shares_of_variance(choices(pool=[*"aabb"], form=[*"ssii"], r_s=[0.0, 0.0, 1.0, 1.0]))
    assert found["choices"]["pool"] == {"levels": 2, "alone": pytest.approx(1), "unique": pytest.approx(0, abs=1e-12)}
    assert specifications.shares_of_variance(choices(pool=[*"ab"], r_s=[0.3, 0.3])) == {}
