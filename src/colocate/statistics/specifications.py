"""The specification curve: every reading of the two quantities, and one joint test of them all.

A specification is a reading of sensitivity (contrast, pool, form, pairs) with a reading of RoPE influence (method,
log_alpha, text_tokens, sign, dtype). specifications.csv has one row each; specification_curve.json what they say
jointly.

    collapsed_into   two readings of one quantity with rank correlation above 0.99 are one reading; the row names the
                     specification that stands for it, "" where it stands for itself
    tested           part of the joint test: stands for itself, and its contrast sets right against wrong (wrong_wrong
                     and paraphrase are controls: shown, not tested)
    published        the paper's reading as far as it is printed; RoPE influence is not, so every reading of it counts
    frozen           the reading this project takes as its primary one, data/published/specification.yaml

Joint test (Simonsohn, Simmons & Nelson 2020, Nat. Hum. Behav. 4): under the null of no relation beyond depth, the RoPE
profiles' DCT coefficients, depth taken out, may have any signs. One draw of signs flips all of them at once, so that
what the specifications have in common stays. Over the draws and the data themselves, which are exchangeable with them,

    r_ij             correlation of reading i of sensitivity with reading j of RoPE influence, both given depth
    p_ij             share of all B + 1 members with |r_ij| as large
    statistics       median |r| (its p is the joint p), |median r|, share of p_ij <= 0.05: each with p = share of
                     members as large. The three can disagree, so all are written, whichever way they fall

Share of variance (of r_s over all specifications): an additive model of the choices, main effects only. `alone` is the
sum of squares of a choice by itself, `unique` what it adds to all the others (type II), both over the total. Choices
that go together share what neither is alone responsible for; `together` is R^2 of all of them. A control never stands
for a reading that is none.
"""

import hashlib
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from scipy import fft, stats

from colocate.errors import InputError
from colocate.statistics.correlations import FEWEST_LAYERS, NOISE_FLOOR, given_depth, layer_values
from colocate.statistics.surrogates import depth_basis, normal_scores, random_signs, residuals

DEFAULTS = {
    "sensitivity": {"contrast": "task", "pool": "all", "form": "state", "pairs": "hand-made"},
    "rope_influence": {"method": "output", "log_alpha": 0.693, "text_tokens": 128, "sign": "both", "dtype": "float32"},
}
CHOICES = [choice for defaults in DEFAULTS.values() for choice in defaults]
_NAMES = "sensitivity,sensitivity_variant,rope,rope_variant,primary,n_layers,r_s,p_plain,p_depth,partial_r_s"
COLUMNS = [*_NAMES.split(","), *CHOICES, "published", "frozen", "tested", "collapsed_into"]
CONTROLS = ("wrong_wrong", "paraphrase")
AS_PRINTED = "as printed"  # the variant that is the profile itself
ALL_HEADS = -1  # kv_head of a value for all heads together
SAME_READING = 0.99
CHUNK = 500  # draws at a time
STATISTICS = ("median_abs_r", "abs_median_r", "share_significant")


def read_frozen(path: str | Path) -> dict:
    """specification.yaml with its `sha256`. Raises InputError for a missing or unknown key."""
    text = Path(path).read_bytes()
    found = yaml.safe_load(text)
    for part in ("published", "frozen"):
        sides = found.get(part) if isinstance(found, dict) else None
        if not isinstance(sides, dict) or set(sides) != set(DEFAULTS):
            raise InputError(f"{path}: {part}: found {sides!r}; needed: {' and '.join(DEFAULTS)}")
        for side, choices in sides.items():
            unknown = [] if choices == "unknown" else sorted(set(choices) - set(DEFAULTS[side]))
            if unknown:
                raise InputError(f"{path}: {part}.{side}: found {unknown}; allowed: {', '.join(DEFAULTS[side])}")
    return found | {"sha256": hashlib.sha256(text).hexdigest()}


def choices_of(settings: dict, variant: str) -> dict:
    """The choices of a reading: those of a profile's settings, and what the name of the variant says otherwise."""
    metric = settings["metric"]
    chosen = {key: settings.get(key, default) for key, default in DEFAULTS[metric].items()}
    if variant == AS_PRINTED:
        return chosen
    if metric == "sensitivity":
        return chosen | dict(zip(("contrast", "pool", "form"), variant.split("/"), strict=True))
    method, _, sign = variant.partition("_")
    return chosen | {"method": method, "sign": sign or "both"}


def matches(choices: dict, wanted: dict | str) -> bool:
    """Whether a reading is the one wanted; what is unknown matches everything."""
    return wanted == "unknown" or all(choices[key] == value for key, value in wanted.items())


def curve(
    profiles: dict[str, pd.DataFrame],
    variants: dict[str, pd.DataFrame],
    settings: dict[str, dict],
    primary: tuple[str, str],
    frozen: dict,
    n_surrogates: int = 9999,
    seed: int = 0,
) -> tuple[pd.DataFrame, dict]:
    """(specifications.csv, specification_curve.json) of one model.

    profiles    name to `layer,value`: sensitivity and RoPE-influence profiles; other metrics are left aside
    variants    name to `variant,item,layer,kv_head,value`
    settings    name to the profile's settings, with its `metric`
    primary     names of the primary pair
    frozen      what `read_frozen` gives
    """
    sides = [readings(metric, profiles, variants, settings, primary) for metric in DEFAULTS]
    leaders = [collapse(side) for side in sides]
    rows = []
    for (i, x), (j, y) in product(*map(enumerate, sides)):
        both = x["values"].index.intersection(y["values"].index)
        if len(both) < FEWEST_LAYERS or min(x["values"][both].nunique(), y["values"][both].nunique()) < 2:
            continue
        chosen = x["choices"] | y["choices"]
        leading = sides[0][leaders[0][i]], sides[1][leaders[1][j]]
        alone = leading[0] is x and leading[1] is y
        rows.append(
            {
                **{"sensitivity": x["profile"], "sensitivity_variant": x["variant"]},
                **{"rope": y["profile"], "rope_variant": y["variant"], "n_layers": len(both)},
                "primary": (x["profile"], y["profile"]) == primary and x["variant"] == y["variant"] == AS_PRINTED,
                **given_depth(x["values"][both], y["values"][both], random_signs(n_surrogates, len(both), seed)),
                **chosen,
                **{name: _marked(x, y, frozen[name]) for name in ("published", "frozen")},
                "tested": alone and chosen["contrast"] not in CONTROLS,
                "collapsed_into": ""
                if alone
                else " | ".join(f"{side['profile']} {side['variant']}" for side in leading),
            }
        )
    table = pd.DataFrame(rows, columns=COLUMNS)
    tested = [
        [
            side
            for i, side in enumerate(part)
            if leaders[number][i] == i and side["choices"].get("contrast") not in CONTROLS
        ]
        for number, part in enumerate(sides)
    ]
    return table, _summary(table, joint_test(*tested, n_surrogates, seed), frozen)


def _marked(x: dict, y: dict, wanted: dict) -> bool:
    return matches(x["choices"], wanted["sensitivity"]) and matches(y["choices"], wanted["rope_influence"])


def readings(metric: str, profiles: dict, variants: dict, settings: dict, primary: tuple[str, str]) -> list[dict]:
    """profile, variant, choices and (finite) values by layer of each reading of one quantity; the primary one first,
    then the profiles as printed, then their variants. The very same reading is listed once."""
    names = [name for name in profiles if settings[name]["metric"] == metric]
    names.sort(key=lambda name: name not in primary)
    found = [(name, AS_PRINTED, layer_values(name, profiles)) for name in names]
    for name in names:
        found += [(name, variant, values) for variant, values in _variants(variants.get(name)).items()]
    kept, seen = [], set()
    for name, variant, values in found:
        values = values[np.isfinite(values)]
        if variant != AS_PRINTED and (len(values) < FEWEST_LAYERS or values.nunique() < 2):
            continue
        key = tuple(values.index), np.round(values.to_numpy() / np.abs(values).max(), 9).tobytes()
        if key in seen and variant != AS_PRINTED:
            continue
        seen.add(key)
        choices = choices_of(settings[name], variant)
        kept.append({"profile": name, "variant": variant, "choices": choices, "values": values})
    return kept


def _variants(table: pd.DataFrame | None) -> dict[str, pd.Series]:
    """Profile of each variant: mean over items, of the value for all KV heads together where there is one."""
    if table is None:
        return {}
    whole = table["kv_head"] == ALL_HEADS
    has_whole = table["variant"].isin(table.loc[whole, "variant"].unique())
    rows = table[(whole | ~has_whole) & (table["variant"] != NOISE_FLOOR)]
    wide = rows.pivot_table(index="layer", columns="variant", values="value", sort=False).sort_index()
    return {str(name): wide[name] for name in wide}


def collapse(side: list[dict]) -> list[int]:
    """For each reading the first one, itself at the latest, that stands for itself and ranks the layers alike."""
    leaders: list[int] = []
    for i, reading in enumerate(side):
        alike = (j for j in sorted(set(leaders)) if _same_reading(reading, side[j]))
        leaders.append(next(alike, i))
    return leaders


def _same_reading(one: dict, other: dict) -> bool:
    x, y = one["values"], other["values"]
    control = [reading["choices"].get("contrast") in CONTROLS for reading in (one, other)]
    return control[0] == control[1] and x.index.equals(y.index) and stats.spearmanr(x, y).statistic > SAME_READING


def joint_test(xs: list[dict], ys: list[dict], n_surrogates: int, seed: int) -> dict:
    """The statistics of all specifications of the readings xs and ys, each with its p value; {} without a test."""
    if not xs or not ys:
        return {}
    layers = sorted(set.intersection(*(set(side["values"].index) for side in [*xs, *ys])))
    basis = depth_basis(np.array(layers, float), 1) if layers else np.zeros((0, 2))
    if len(layers) - basis.shape[1] < 3:
        return {}
    x, y = (
        residuals(np.stack([normal_scores(side["values"][layers].to_numpy()) for side in part]), basis)
        for part in (xs, ys)
    )
    keep = [np.linalg.norm(part, axis=1) > 1e-9 for part in (x, y)]
    if not (keep[0].any() and keep[1].any()):
        return {}
    r = surrogate_correlations(x[keep[0]], y[keep[1]], random_signs(n_surrogates, len(layers), seed), basis)
    found = {
        "n_specifications": r.shape[1],
        "n_layers": len(layers),
        "draws": n_surrogates,
        "median_r": float(np.median(r[0])),
    }
    for name, values in zip(STATISTICS, statistics(r), strict=True):
        p = float((values >= values[0] - 1e-9).mean())
        found[name] = {"value": float(values[0]), "p": p, "null_median": float(np.median(values[1:]))}
    return found | {"p": found[STATISTICS[0]]["p"]}


def surrogate_correlations(x: np.ndarray, y: np.ndarray, signs: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """(1 + B, n_x n_y) correlations given depth, of residual scores x (n_x, L) and y (n_y, L): the data's own first,
    then those with every y flipped by one row of signs (B, L)."""
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    dct_x, dct_y, dct_basis = (fft.dct(part, norm="ortho", axis=1) for part in (x, y, basis.T))
    norms, members = (y**2).sum(axis=1), np.concatenate([np.ones((1, x.shape[1])), signs])
    rows = []
    for start in range(0, len(members), CHUNK):
        flipped = members[start : start + CHUNK, None] * dct_y  # (draws, n_y, L)
        left = np.maximum(norms - ((flipped @ dct_basis.T) ** 2).sum(axis=2), 1e-12)
        r = flipped @ dct_x.T / np.sqrt(left)[:, :, None]
        rows.append(r.swapaxes(1, 2).reshape(len(r), -1))
    return np.concatenate(rows)


def statistics(r: np.ndarray) -> list[np.ndarray]:
    """STATISTICS of each member, from (members, specifications) correlations."""
    size = np.abs(r)
    p = stats.rankdata(-np.round(size, 12), method="max", axis=0) / len(r)
    return [np.median(size, axis=1), np.abs(np.median(r, axis=1)), (p <= 0.05).mean(axis=1)]


def shares_of_variance(table: pd.DataFrame, outcome: str = "r_s") -> dict:
    """{choice: {"levels", "alone", "unique"}, "together": R^2} of the choices that vary; {} where nothing does."""
    y = table[outcome].to_numpy(float)
    total = ((y - y.mean()) ** 2).sum() if len(y) else 0.0
    varying = [name for name in CHOICES if table[name].nunique() > 1]
    if not varying or total < 1e-12:
        return {}
    columns = {name: pd.get_dummies(table[name].astype(str), drop_first=True).to_numpy(float) for name in varying}

    def explained(names: list[str]) -> float:
        design = np.column_stack([np.ones(len(y)), *(columns[name] for name in names)])
        left = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
        return float(1 - left @ left / total)

    together = explained(varying)
    shares = {
        name: {
            "levels": int(table[name].nunique()),
            "alone": explained([name]),
            "unique": max(0.0, together - explained([other for other in varying if other != name])),
        }
        for name in varying
    }
    return {"choices": shares, "together": together}


def mark_primary(correlations: pd.DataFrame, summary: dict) -> pd.DataFrame:
    """correlations.csv whose primary row says so where it is not the frozen specification."""
    if summary["primary_is_frozen"]:
        return correlations
    chosen = correlations["primary"].astype(bool)
    notes = [summary["note"] + (f"; {note}" if note else "") for note in correlations.loc[chosen, "note"]]
    return correlations.assign(note=correlations["note"].mask(chosen, pd.Series(notes, correlations.index[chosen])))


def _summary(table: pd.DataFrame, joint: dict, frozen: dict) -> dict:
    primary = table[table["primary"]]
    is_frozen = bool(len(primary) and primary["frozen"].iloc[0])
    return {
        "n": len(table),
        "n_tested": int(table["tested"].sum()),
        "n_collapsed": int((table["collapsed_into"] != "").sum()),
        "n_published": int(table["published"].sum()),
        "joint": joint,
        "variance_of_r_s": shares_of_variance(table) | {"type": "main effects; alone, and type II (unique)"},
        "frozen": frozen["frozen"],
        "published": frozen["published"],
        "specification_sha256": frozen["sha256"],
        "primary_is_frozen": is_frozen,
        "note": "" if is_frozen else "the primary pair is not the frozen specification",
    }
