"""Measurements of claims that rest on layer profiles of the untrained model, oriented so that above 0 is the claim.

correlations       -r_dis, and -partial r_dis given depth (with its surrogate p)
late_early         mean relative depth of S less 1/2, and 1/2 less that of R; percentile interval over bootstrap
                   draws of the items
one_scan           rank correlation of the sensitivity profiles of each two domains, without item noise; Jaccard of
                   their sets in words
beyond_twins       mean r_s of randomly initialised twins less that of the model
early_structural   whether early exits and probes rise later in the depth rather than earlier
"""

import numpy as np
import pandas as pd

from colocate.statistics.claims import Measurement, Part, over_seeds
from colocate.statistics.gates import LEAST_RELIABILITY
from colocate.statistics.reliability import item_values, top_sets
from colocate.statistics.stability import with_values
from colocate.statistics.twins import beyond_architecture


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


def one_scan(primary: dict | None, domains: pd.DataFrame | None) -> Measurement | None:
    """Agreement of the sensitivity profile between each two domains (domains.csv); those too unreliable are absent."""
    if primary is None or domains is None or domains.empty:
        return None
    rows = domains[(domains["profile"] == primary["sensitivity"]) & (domains["kind"] == "domain")]
    compared = rows[rows["jaccard"].notna()]
    if compared.empty:
        notes = "; ".join(filter(None, rows["note"].fillna("").astype(str)))
        return Measurement(missing=notes) if notes else None
    parts, absent = [], []
    for row in compared.to_dict("records"):
        label = f"{row['a']} and {row['b']}"
        if min(row["reliability_a"], row["reliability_b"]) >= LEAST_RELIABILITY:
            ends = [row[name] for name in ("ci_low", "ci_high", "ci90_low", "ci90_high")]
            parts.append(Part(label, row["r_dis"], *ends))
        else:
            absent.append(label)
    names = set(compared["a"]) | set(compared["b"])
    sets = f"mean Jaccard of their top {compared['top'].iloc[0]:.0f} layers {compared['jaccard'].mean():.2f}"
    detail = f"{len(names)} domains, {sets}"
    missing = f"no two domains with reliability {LEAST_RELIABILITY} ({detail})" if not parts else ""
    return Measurement(tuple(parts), tuple(absent), detail, missing)


def beyond_twins(primary: dict | None, table: pd.DataFrame | None) -> Measurement | None:
    """Mean r_s of the randomly initialised twins less r_s of the model."""
    if primary is None or table is None or not (table["kind"] == "random").any():
        return None
    d, low, high, df = beyond_architecture(primary, table)
    _, low90, high90, _ = beyond_architecture(primary, table, level=0.90)
    means = table.groupby("kind")["r_s"].agg(["mean", "size"])
    beside = ", ".join(f"{row['size']:.0f} {kind} twins r_s {row['mean']:+.2f}" for kind, row in means.iterrows())
    part = Part("mean of the twins less the model", -d, -high, -low, -high90, -low90, df)
    return Measurement((part,), detail=f"r_s {primary['r_s']:+.2f}; {beside}", seeds=int(means.loc["random", "size"]))


def early_structural(items: dict, metrics: dict[str, str]) -> Measurement | None:
    """How much later than earlier the answer is decided: the rise of early-exit and of probe accuracy over the second
    half of the depth less that over the first, (last - middle) - (middle - first), each the mean of a fifth of the
    depth, one value an item; t interval over items.
    """
    parts, absent, n_items = [], [], []
    for metric in ("early_exit", "probe"):
        name = next((name for name, kind in metrics.items() if kind == metric and items.get(name) is not None), None)
        if name is None:
            absent.append(f"{metric} has no item values here")
            continue
        values = item_values(items[name], with_values(items[name]), name)
        fifths = np.array_split(np.arange(values.shape[1]), 5)
        first, middle, last = (values.iloc[:, fifths[i]].mean(axis=1) for i in (0, 2, 4))
        parts.append(over_seeds(f"rise of {metric} late less early", last + first - 2 * middle))
        n_items.append(f"{name} {len(values)} items")
    if not parts:
        return None
    return Measurement(tuple(parts), tuple(absent), ", ".join(n_items))
