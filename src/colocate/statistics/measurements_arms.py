"""Measurements of claims that rest on trained arms, but not on a contrast, oriented so that above 0 is the claim.

alphas_above_one       mean log alpha, t interval over seeds
alphas_peak            log alpha at the first layer of S less the mean of the other layers; in the co-located arm that
                       layer is also the first adapted one, so the same must hold in a window that begins earlier,
                       and with GARFA everywhere
middle_stable          debiased CKA with base: mean of 20 to 80 % of the depth less that of the last fifth, t interval
                       over seeds
haiku                  68.3 less the arm's score on HumanEval+
mid_block_cheaper      share of the trainable parameters, and of the training compute, that Mid-Block saves. Seconds
                       differ from run to run and stand in compute.csv; compute follows from the layers
                       (recommendation.compute_share)
instruction_localised  effect of one depth segment less the mean of the others: each seed is scored on the segment
                       that the other seeds point to, so that choosing it is not paid for twice
"""

from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import stats

from colocate.layer_sets import segments
from colocate.statistics import benchmarks
from colocate.statistics.claims import Measurement, Part, over_seeds
from colocate.statistics.contrasts import SEGMENTS
from colocate.statistics.recommendation import compute_share

HAIKU = 68.3  # Claude 3.5 Haiku on HumanEval+, per cent, as Rao 2026 prints it
PEAK_ARMS = ("garfa_everywhere", "garfa_shifted")
CHEAPER = ("mid_block_as_published", "standard_lora_full_rank")  # the others have the same budget by construction


def alphas_above_one(alphas: pd.DataFrame, arm: str) -> Measurement | None:
    rows = alphas[alphas["arm"] == arm]
    if rows.empty:
        return None
    logs = np.log(rows["alpha"].astype(float))
    means = logs.groupby(rows["seed"]).mean()
    detail = f"{arm}, {len(means)} seeds, {100 * (logs > 0).mean():.0f} % of {len(rows)} alphas above 1"
    return Measurement((over_seeds("mean log alpha", means),), detail=detail, seeds=len(means))


def alphas_peak(alphas: pd.DataFrame, arm: str, chosen: list[int] | None) -> Measurement | None:
    if not chosen or alphas[alphas["arm"] == arm].empty:
        return None
    lacking = [other for other in PEAK_ARMS if other not in set(alphas["arm"])]
    parts, seeds = [], []
    for name in (arm, *PEAK_ARMS):
        rows = alphas[alphas["arm"] == name]
        if rows.empty:
            continue
        logs = np.log(rows["alpha"].astype(float)).groupby([rows["seed"], rows["layer"]]).mean().unstack("layer")
        if min(chosen) in logs and logs.shape[1] > 1:
            parts.append(over_seeds(name, logs[min(chosen)] - logs.drop(columns=min(chosen)).mean(axis=1)))
            seeds.append(len(logs))
    first = f"layer {min(chosen)} is both the first of S and the first adapted layer of {arm}"
    if lacking:
        return Measurement(missing=f"{first}; needs the arms {' and '.join(lacking)} to tell them apart")
    return Measurement(tuple(parts), detail=first, seeds=min(seeds, default=0))


def middle_stable(cka: pd.DataFrame | None) -> Measurement | None:
    """From `arm,seed,layer,value`; the arm with LoRA on all layers, the nearest to ordinary fine-tuning, where there is
    one.
    """
    if cka is None or cka.empty:
        return None
    arm = "standard_lora" if "standard_lora" in set(cka["arm"]) else cka["arm"].iloc[0]
    wide = cka[cka["arm"] == arm].pivot(index="seed", columns="layer", values="value")
    n_layers = wide.shape[1]
    middle, last = slice(n_layers // 5, 4 * n_layers // 5), slice(4 * n_layers // 5, n_layers)
    gaps = wide.iloc[:, middle].mean(axis=1) - wide.iloc[:, last].mean(axis=1)
    detail = f"{arm}, {len(gaps)} seeds, {n_layers} layers"
    return Measurement((over_seeds("CKA of the middle less that of the end", gaps),), detail=detail, seeds=len(gaps))


def haiku(summaries: pd.DataFrame, arm: str) -> Measurement | None:
    """From the arm's HumanEval+ scores: item variance of one score, plus the variance over seeds."""
    plain = summaries["benchmark"].str.lower().str.replace("_", "")
    rows = summaries[(summaries["arm"] == arm) & plain.str.contains("humanevalplus") & summaries["accuracy"].notna()]
    rows = rows[[not benchmarks.is_mini(name) for name in rows["benchmark"]]]
    if rows.empty:
        return None
    score, n, k = float(rows["accuracy"].mean()), float(rows["n"].max()), len(rows)
    se = 100 * np.sqrt(score * (1 - score) / n + (rows["accuracy"].var(ddof=1) / k if k > 1 else 0))
    halves = [float(stats.norm.ppf(0.5 + level / 2) * se) for level in (0.95, 0.9)]
    gap = HAIKU - 100 * score
    part = Part("68.3 less the score", gap, gap - halves[0], gap + halves[0], gap - halves[1], gap + halves[1])
    return Measurement((part,), detail=f"{arm}, {n:.0f} items, {k} seed{'s' * (k != 1)}", seeds=k)


def both_readings(found: Measurement | None, summaries: pd.DataFrame, arm: str, name: str) -> Measurement | None:
    """A difference in points, with what it is relative to the arm's accuracy in words."""
    if found is None:
        return None
    rows = summaries[(summaries["arm"] == arm) & summaries["benchmark"].str.lower().str.contains(name)]
    rows = rows[[not benchmarks.is_mini(benchmark) for benchmark in rows["benchmark"]]]
    share = found.parts[0].estimate / rows["accuracy"].mean()
    return replace(found, detail=f"{found.parts[0].estimate:+.1f} points, {share:+.1f} % of {arm}; {found.detail}")


def mid_block_cheaper(arms: list[dict]) -> Measurement | None:
    """Parameters and compute that Mid-Block saves, both arms as published; None where they were not run."""
    resolved = {arm["arm"]: arm for arm in arms}
    if not set(CHEAPER) <= set(resolved):
        return None
    block, standard = (resolved[name] for name in CHEAPER)
    n_layers = len(standard["lora_layers"])
    compute = compute_share(block, n_layers) / compute_share(standard, n_layers)
    parts = (
        Part.exact("share of parameters saved", 1 - block["n_trainable"] / standard["n_trainable"]),
        Part.exact("share of training compute saved", 1 - compute),
    )
    trained = f"{block['n_trainable']:,} against {standard['n_trainable']:,} trainable parameters"
    return Measurement(parts, detail=f"{CHEAPER[0]} against {CHEAPER[1]}: {trained}, compute {100 * compute:.0f} %")


def instruction_localised(swaps: pd.DataFrame | None, summaries: pd.DataFrame) -> Measurement | None:
    """From `arm,seed,layer,value` of segment swaps, and the accuracy of the five one-segment arms on IFEval."""
    tables = {}
    if swaps is not None and len(swaps):
        arm = "standard_lora" if "standard_lora" in set(swaps["arm"]) else swaps["arm"].iloc[0]
        wide = swaps[swaps["arm"] == arm].pivot(index="seed", columns="layer", values="value")
        masks = ["".join("01"[i == j] for j in range(5)) for i in range(5)]
        tables[f"segment swap, {arm}"] = np.stack(
            [wide[segments(mask, wide.shape[1])].mean(axis=1).to_numpy(float) for mask in masks], axis=1
        )
    rows = summaries[summaries["benchmark"].str.lower().str.contains("ifeval") & summaries["arm"].isin(SEGMENTS)]
    wide = rows.pivot_table(index="seed", columns="arm", values="accuracy")
    if set(SEGMENTS) <= set(wide):
        tables["IFEval by segment"] = wide[list(SEGMENTS)].dropna().to_numpy(float)
    if not tables:
        return None
    parts = tuple(over_seeds(label, pd.Series(localisation(values))) for label, values in tables.items())
    found = " ".join(tables)
    absent = tuple(f"{kind} was not run" for kind in ("segment swap", "IFEval by segment") if kind not in found)
    seeds = min(len(values) for values in tables.values())
    return Measurement(parts, absent, f"{seeds} seeds, 5 segments", seeds=seeds)


def localisation(values: np.ndarray) -> np.ndarray:
    """(k,) of (k seeds, segments): the segment that the other seeds put first, less the mean of the rest."""
    k, n = values.shape
    if k < 2:
        return np.full(k, np.nan)
    others = (values.sum(axis=0) - values) / (k - 1)
    chosen = values[np.arange(k), others.argmax(axis=1)]
    return chosen - (values.sum(axis=1) - chosen) / (n - 1)
