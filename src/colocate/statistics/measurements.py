"""Measurements of claims that rest on profiles, alphas, CKA or one arm's score, each oriented so that above 0 is the
claim.

    correlations       -r_dis, and -partial r_dis given depth (with its surrogate p)
    late_early         mean relative depth of S less 1/2, and 1/2 less that of R; percentile interval over bootstrap
                       draws of the items
    one_scan           rank correlation of the sensitivity profiles of each two domains, without item noise; Jaccard of
                       their sets in words
    alphas_above_one   mean log alpha, t interval over seeds
    alphas_peak        log alpha at the first layer of S less the mean of the other layers; in the co-located arm that
                       layer is also the first adapted one, so the same must hold in a window that begins earlier, and
                       with GARFA everywhere
    middle_stable      debiased CKA with base: mean of 20 to 80 % of the depth less that of the last fifth, t interval
                       over seeds
    haiku              68.3 less the arm's score on HumanEval+
"""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from colocate.statistics import benchmarks
from colocate.statistics.claims import Measurement, Part
from colocate.statistics.gates import LEAST_RELIABILITY
from colocate.statistics.reliability import FEWEST_ITEMS, associate, item_scores, item_values, top_sets
from colocate.statistics.surrogates import depth_basis

HAIKU = 68.3  # Claude 3.5 Haiku on HumanEval+, per cent, as Rao 2026 prints it
PEAK_ARMS = ("garfa_everywhere", "garfa_shifted")


def correlations(primary: dict | None) -> dict[str, Measurement]:
    """Keys anti_localization and beyond_depth, from the primary row of correlations.csv."""
    if primary is None:
        return {}
    n_items = f"{primary['n_items_x']:.0f} and {primary['n_items_y']:.0f} items"
    basis = f"{primary['sensitivity']} and {primary['rope']}, {primary['n_layers']} layers, {n_items}, one model"
    found = {}
    for key, prefix, r, p in (
        ("anti_localization", "", f"r_s {primary['r_s']:+.2f}", None),
        ("beyond_depth", "partial_", f"partial r_s {primary['partial_r_s']:+.2f}", primary["p_depth"]),
    ):
        estimate, *bounds = (
            -primary[prefix + name] for name in ("r_dis", "ci_high", "ci_low", "ci90_high", "ci90_low")
        )
        part = Part(key.replace("_", " "), estimate, *bounds)
        chance = f"p {primary['p_raw']:.3g} against profiles as smooth, {primary['p_depth']:.3g} given depth"
        detail = f"{basis}; {r}, without item noise {-estimate:+.2f}; {chance}"
        missing = "" if np.isfinite(estimate) else f"no interval without items in both profiles ({basis})"
        found[key] = Measurement((part,), detail=detail, missing=missing, p=p)
    return found


def late_early(
    primary: dict | None, profiles: dict, items: dict, sets: dict[str, list[int]], seed: int
) -> Measurement | None:
    """S late and R early, for the sets S and R (lists of layers) taken from the primary profiles."""
    if primary is None or len(sets) < 2:
        return None
    parts, sizes = [], []
    for letter, name, sign in (("S", primary["sensitivity"], 1), ("R", primary["rope"], -1)):
        if items.get(name) is None:
            return Measurement(missing=f"{name} has no items to draw anew, so the depth of {letter} has no interval")
        profile = profiles[name].dropna(subset=["value"])
        values = item_values(items[name], sorted(profile["layer"]), name)
        depth = values.columns.to_numpy(float) / profiles[name]["layer"].max()
        chosen = top_sets(values.to_numpy(float), len(sets[letter]), np.random.default_rng([seed, 2]))
        drawn = sign * ((chosen * depth).sum(axis=1) / len(sets[letter]) - 0.5)
        estimate = sign * (np.mean(sets[letter]) / profiles[name]["layer"].max() - 0.5)
        bounds = [float(bound) for bound in np.percentile(drawn, [2.5, 97.5, 5, 95])]
        where = f"{letter} {'late' if sign > 0 else 'early'}"
        parts.append(Part(where, float(estimate), *bounds))
        sizes.append(f"{letter} = layers {', '.join(map(str, sets[letter]))} ({len(values)} items)")
    return Measurement(tuple(parts), detail="; ".join(sizes))


def one_scan(primary: dict | None, items: dict, item_domains: dict[str, str] | None, seed: int) -> Measurement | None:
    """Agreement of the sensitivity profile between each two domains; domains too unreliable to compare are absent."""
    table = items.get(primary["sensitivity"]) if primary else None
    if table is None or not item_domains:
        return None
    layers = sorted(table.dropna(subset=["value"])["layer"].unique())
    by_domain = table.assign(domain=table["item"].map(item_domains)).dropna(subset=["domain"]).groupby("domain")
    scores = {
        name: item_scores(rows, layers, name) for name, rows in by_domain if rows["item"].nunique() >= FEWEST_ITEMS
    }
    basis, rng = depth_basis(np.array(layers, float), 0), np.random.default_rng([seed, 3])
    k = max(1, round(0.28 * len(layers)))
    parts, absent, jaccard = [], [], []
    for one, other in combinations(scores, 2):
        found, label = associate(scores[one], scores[other], basis, rng, draws=500), f"{one} and {other}"
        top = [set(np.argsort(-scores[name].scores.mean(axis=0), kind="stable")[:k]) for name in (one, other)]
        jaccard.append(len(top[0] & top[1]) / len(top[0] | top[1]))
        if min(found.reliability_x, found.reliability_y) >= LEAST_RELIABILITY:
            parts.append(Part(label, found.r_dis, *found.interval95, *found.interval90))
        else:
            absent.append(label)
    if not jaccard:
        return None
    detail = f"{len(scores)} domains, mean Jaccard of their top {k} layers {np.mean(jaccard):.2f}"
    note = f"no two domains with reliability {LEAST_RELIABILITY} ({detail})" if not parts else ""
    return Measurement(tuple(parts), tuple(absent), detail, note)


def over_seeds(label: str, values: pd.Series) -> Part:
    """Mean of one value a seed, with t intervals; NaN bounds with one seed."""
    mean, k = float(values.mean()), len(values)
    if k < 2:
        return Part(label, mean, *[float("nan")] * 4)
    halves = [float(stats.t.ppf(0.5 + level / 2, k - 1) * values.std(ddof=1) / np.sqrt(k)) for level in (0.95, 0.9)]
    return Part(label, mean, mean - halves[0], mean + halves[0], mean - halves[1], mean + halves[1], df=k - 1)


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
