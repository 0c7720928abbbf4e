"""Correlations between sensitivity profiles and RoPE-influence profiles, one row a pair.

correlations.csv
    sensitivity, rope, primary    the pair; the primary specification is the one the config names
    n_layers                      layers where both profiles have a value (a layer without RoPE has no RoPE influence)
    r_s, p_plain                  Spearman's correlation of the two printed profiles and its t test: as printed; not
                                  valid for neighbouring layers
    p_raw                         surrogate p (colocate.statistics.surrogates)
    p_depth, p_depth3             surrogate p given a line, and given a cubic, in depth; p_depth is the primary test
    p_modified_t                  modified t test (Dutilleul 1993)
    partial_r_s                   Spearman's partial correlation given depth
    reliability_x, reliability_y  of the two profiles over their items (colocate.statistics.reliability)
    r_dis, ci_low, ci_high        r of the item profiles without item noise, with its 95 % interval over items
    n_items_x, n_items_y          items of each profile
    overlap_k, overlap            the k layers highest in each profile, and how many they share
    note                          layers left out; what has no items
    then r_items (before disattenuation), ci90_low and ci90_high, and the same given depth: partial_reliability_x,
    partial_reliability_y, partial_r_dis, partial_ci_low, partial_ci_high, partial_ci90_low, partial_ci90_high; last
    items_needed_x, items_needed_y: items for a reliability of 0.9.

The interval is over items: it says how well the profiles of this one model are known, and nothing about other models.
"""

import numpy as np
import pandas as pd
from scipy import stats

from colocate.errors import InputError
from colocate.profiles.noise_floor import FLOORS, unresolved
from colocate.statistics.reliability import Association, associate, item_scores, items_needed
from colocate.statistics.surrogates import (
    depth_basis,
    modified_t_p,
    normal_scores,
    random_signs,
    residuals,
    surrogate_p,
)

FEWEST_LAYERS = 4
TOP = 0.28  # share of the layers in a set, 9 of 32 as published
NOISE_FLOOR = "noise_floor"  # the variant that is rounding noise, not a profile
_NAMES = (
    "sensitivity,rope,primary,n_layers,r_s,p_plain,p_raw,p_depth,p_depth3,p_modified_t,partial_r_s,"
    "reliability_x,reliability_y,r_dis,ci_low,ci_high,n_items_x,n_items_y,overlap_k,overlap,note,"
    "r_items,ci90_low,ci90_high,partial_reliability_x,partial_reliability_y,partial_r_dis,"
    "partial_ci_low,partial_ci_high,partial_ci90_low,partial_ci90_high,items_needed_x,items_needed_y"
)
COLUMNS = _NAMES.split(",")


def correlate(
    profiles: dict[str, pd.DataFrame],
    items: dict[str, pd.DataFrame | None],
    pairs_of_profiles: list[tuple[str, str]],
    primary: tuple[str, str] | None,
    n_surrogates: int = 9999,
    seed: int = 0,
    *,
    variants: dict[str, pd.DataFrame] | None = None,
    top: float = TOP,
) -> pd.DataFrame:
    """Correlations of the pairs (sensitivity, rope), in the order given.

    profiles    name to `layer,value` (further columns are ignored); a NaN value means that the layer has none
    items       name to `item,layer,value`, or None for a metric without items: no interval then
    variants    name to `variant,item,layer,kv_head,value`: layers near their noise floor are named in `note`
    top         share of the layers in the sets whose overlap is counted

    Raises InputError on an unknown name, a profile without spread, or fewer than four common layers.
    """
    pairs = list(dict.fromkeys((str(x), str(y)) for x, y in pairs_of_profiles))
    tables = {name: layer_values(name, profiles) for name in dict.fromkeys(name for pair in pairs for name in pair)}
    primary = tuple(primary) if primary else None
    if primary is not None and primary not in pairs:
        raise InputError(f"primary pair: found {primary}; allowed: one of {pairs}")
    rows = []
    for pair in pairs:
        x, y, note = common_layers(pair, [tables[name] for name in pair])
        note += [remark for name in pair for remark in _doubts(name, tables[name], (variants or {}).get(name))]
        row = {"sensitivity": pair[0], "rope": pair[1], "primary": pair == primary, "n_layers": len(x)}
        row |= _tests(x, y, n_surrogates, seed) | _overlap(x, y, top)
        if 2 * row["overlap"] >= row["overlap_k"]:
            note.append(
                f"S and R share {row['overlap']} of {row['overlap_k']} layers: arms on S and on R then hardly differ; "
                "take a smaller top, or another primary pair, before training the 2 x 2"
            )
        row |= _item_columns(pair, items, x.index, seed, note)
        rows.append(row | {"note": "; ".join(note)})
    return pd.DataFrame(rows, columns=COLUMNS)


def _doubts(name: str, values: pd.Series, variants: pd.DataFrame | None) -> list[str]:
    """What makes the ranks of a profile doubtful: ties, and layers that rounding alone explains."""
    finite = values[np.isfinite(values)]
    tied = sorted(int(layer) for layer in finite.index[finite.duplicated(keep=False)])
    small = unresolved(variants) if variants is not None and NOISE_FLOOR in set(variants["variant"]) else []
    doubts = [f"{name}: layers {tied} are tied and share their mean rank"] if tied else []
    if small:
        doubts.append(
            f"{name}: layers {small} are under {FLOORS} times their noise floor; raise log_alpha to rank them"
        )
    return doubts


def layer_values(name: str, profiles: dict[str, pd.DataFrame]) -> pd.Series:
    """Values by layer. Raises InputError on an unknown name and on a layer that occurs twice."""
    if name not in profiles:
        raise InputError(f"profile {name}: not computed; found {sorted(profiles)}")
    values = profiles[name].set_index("layer")["value"].astype(float)
    if values.index.has_duplicates:
        raise InputError(f"profile {name}: layer {values.index[values.index.duplicated()][0]} occurs twice")
    return values.sort_index()


def common_layers(pair: tuple[str, str], values: list[pd.Series]) -> tuple[pd.Series, pd.Series, list[str]]:
    """Both profiles on the layers where each has a finite value, and which layers each lacks."""
    layers = values[0].index.union(values[1].index)
    finite = [set(profile[np.isfinite(profile)].index) for profile in values]
    note = []
    for name, present in zip(pair, finite, strict=True):
        lacking = [int(layer) for layer in layers if layer not in present]
        if lacking:
            note.append(f"{name} has no value at layers {lacking}, left out")
    both = sorted(finite[0] & finite[1])
    if len(both) < FEWEST_LAYERS:
        raise InputError(f"profiles {pair[0]} and {pair[1]}: {len(both)} common layers; needed: {FEWEST_LAYERS}")
    for name, profile in zip(pair, values, strict=True):
        if profile.loc[both].nunique() < 2:
            raise InputError(f"profile {name}: the same value at every layer; a correlation needs differences")
    return values[0].loc[both], values[1].loc[both], note


def _tests(x: pd.Series, y: pd.Series, n_surrogates: int, seed: int) -> dict:
    """The columns r_s to partial_r_s."""
    depth, scores = x.index.to_numpy(float), [normal_scores(values.to_numpy()) for values in (x, y)]
    signs = random_signs(n_surrogates, len(x), seed)
    raw, cubic = (surrogate_p(*scores, signs, depth_basis(depth, degree)) for degree in (0, 3))
    return given_depth(x, y, signs) | {"p_raw": raw, "p_depth3": cubic, "p_modified_t": modified_t_p(*scores)}


def given_depth(x: pd.Series, y: pd.Series, signs: np.ndarray) -> dict:
    """r_s, p_plain, p_depth and partial_r_s of two profiles over the same layers."""
    depth, scores = x.index.to_numpy(float), [normal_scores(values.to_numpy()) for values in (x, y)]
    plain = stats.spearmanr(x, y)
    return {
        "r_s": float(plain.statistic),
        "p_plain": float(plain.pvalue),
        "p_depth": surrogate_p(*scores, signs, depth_basis(depth, 1)),
        "partial_r_s": partial_rank_correlation(x.to_numpy(), y.to_numpy(), depth),
    }


def partial_rank_correlation(x: np.ndarray, y: np.ndarray, depth: np.ndarray) -> float:
    """Spearman's correlation of x and y given depth, each (L,); NaN if a profile is its depth."""
    left = residuals(np.stack([stats.rankdata(x), stats.rankdata(y)]), depth_basis(stats.rankdata(depth), 1))
    norms = np.linalg.norm(left, axis=1)
    return float(left[0] @ left[1] / norms.prod()) if norms.min() > 1e-9 else float("nan")


def _overlap(x: pd.Series, y: pd.Series, top: float) -> dict:
    k = max(1, round(top * len(x)))
    return {"overlap_k": k, "overlap": len(set(x.nlargest(k).index) & set(y.nlargest(k).index))}


def _item_columns(pair: tuple[str, str], items: dict, layers: pd.Index, seed: int, note: list[str]) -> dict:
    """Columns that need items; adds to `note` what has none."""
    without = [name for name in pair if items.get(name) is None]
    found = {name: item_scores(items[name], layers, name) for name in pair if name not in without}
    row = {
        f"n_items_{side}": len(found[name].names) if name in found else 0 for side, name in zip("xy", pair, strict=True)
    }
    note += [f"{name} has no items: no interval" for name in without]
    note += [
        f"{name}: {part.raised} item values at or below 0 raised to the smallest"
        for name, part in found.items()
        if part.raised
    ]
    if without:
        return row
    both, depth = [found[name] for name in pair], layers.to_numpy(float)
    rng = np.random.default_rng([seed, 1])
    raw = associate(*both, depth_basis(depth, 0), rng)
    partial = associate(*both, depth_basis(depth, 1), rng)
    for side, reliability in zip("xy", (raw.reliability_x, raw.reliability_y), strict=True):
        row[f"items_needed_{side}"] = items_needed(reliability, row[f"n_items_{side}"])
    return row | {"r_items": raw.r} | _association("", raw) | _association("partial_", partial)


def _association(prefix: str, found: Association) -> dict:
    values = [found.reliability_x, found.reliability_y, found.r_dis, *found.interval95, *found.interval90]
    names = ["reliability_x", "reliability_y", "r_dis", "ci_low", "ci_high", "ci90_low", "ci90_high"]
    return {prefix + name: value for name, value in zip(names, values, strict=True)}
