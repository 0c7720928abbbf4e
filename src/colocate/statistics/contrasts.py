"""Differences between arms, paired over items and seeds: the rows of contrasts.csv.

arm_a, arm_b         the difference is arm_a - arm_b. Rows: the reference arm against every other, every arm against
                     base, the pairs asked for in `also`, and the synergy (both - LoRA alone) - (GARFA alone - base)
                     where its arms are there; the reference against random draws that are only measured on
                     held-out text (`<name>-draw<i>`), as one arm <name>
benchmark            a benchmark's name; `composite`, all benchmarks with equal weight; `composite_<domain>`, those of
                     one domain; `heldout`, held-out text of the training mixture
outcome              accuracy (share of items); gold_logprob, margin (nat); heldout_loss (nat a token, less is better)
difference, ci_low,  t interval and test of `colocate.statistics.variance`. With one seed and accuracy on one benchmark:
  ci_high, p         McNemar's exact p, and Bonett and Price's standard error; they speak of these two checkpoints only
p_adjusted, family   `primary` is the reference's accuracy on the composite against the arms named beforehand, adjusted
                     by Holm; the rest is `exploratory` and not adjusted
n_items, n_seeds     items (of all benchmarks in a composite) and common seeds
ci90_low, ci90_high, se, df, n_units (clusters where items come in clusters), note
n_draws              of random draws: each draw with each seed is a set of its own. p is then the rank of the
                     reference's mean loss among those of the draws, never below 1 / (n_draws + 1); the interval is
                     Welch's t over the reference's seeds and the draws
"""

import re
from collections.abc import Sequence
from itertools import chain

import numpy as np
import pandas as pd
from scipy import stats

from colocate.errors import InputError
from colocate.statistics.benchmarks import DOMAINS, count_in_words, domain
from colocate.statistics.outcomes import Scores, combination, scores
from colocate.statistics.variance import holm, mcnemar

# outcome: column of the item tables
OUTCOMES = {"accuracy": "correct", "gold_logprob": "gold_logprob", "margin": "margin"}
_NAMES = (
    "arm_a,arm_b,benchmark,outcome,difference,ci_low,ci_high,p,p_adjusted,family,n_items,n_seeds,"
    "ci90_low,ci90_high,se,df,n_units,note,n_draws"
)
COLUMNS = _NAMES.split(",")
SYNERGY = ("colocated", "lora_sensitive", "garfa_sensitive")
MASKS = ("mid_block", "mask_01100", "mask_00110", "segment_2", "segment_3", "segment_4")  # Zhao et al.'s six
SEGMENTS = ("segment_1", "segment_2", "segment_3", "segment_4", "segment_5")
ALSO = (
    *((mask, "standard_lora") for mask in MASKS),
    *((segment, SEGMENTS[-1]) for segment in SEGMENTS[:-1]),
    ("mid_block_as_published", "standard_lora_full_rank"),
)
DRAW = re.compile(r"(.+)-draw\d+")


def contrast(
    evaluations: pd.DataFrame,
    heldout: pd.DataFrame | None,
    primary: dict,
    *,
    base: str = "base",
    random_arms: Sequence[str] = (),
    environments: pd.DataFrame | None = None,
    also: Sequence[tuple[str, str]] = ALSO,
    aliases: dict[str, str] | None = None,
) -> pd.DataFrame:
    """The contrasts of one model.

    evaluations    arm,seed,benchmark,item,group,correct,gold_logprob,margin: one row an item; null where an outcome
                   does not exist
    heldout        arm,seed,split,item,group,loss: loss of the trained arm, and of `base` (see `stack_heldout`); `test`
                   is used
    primary        {"reference": arm, "against": [arms]}; arms that were not run are left out of the family
    random_arms    arms whose layers are drawn anew for every seed
    environments   arm,seed,benchmark,dtype,device of the evaluations
    also           further pairs; one whose arms were not run is left out
    aliases        {arm: the same arm, under the name that it was run under}

    Raises InputError on evaluations of different dtype or kind of device, and on missing columns.
    """
    same_environment(environments)
    needed = ["arm", "seed", "benchmark", "item", *OUTCOMES.values()]
    _need_columns(evaluations, needed, "evaluations")
    reference, against = primary["reference"], list(primary["against"])
    arms = list(dict.fromkeys(chain(evaluations["arm"], heldout["arm"] if heldout is not None else ())))
    pairs = _pairs(arms, reference, base, also, aliases or {})
    tables = _tables(evaluations, base)
    rows = []
    for (benchmark, outcome), group in _cells(tables, heldout, base):
        rows += [_row(name, weights, benchmark, outcome, group, base, random_arms) for name, weights in pairs.items()]
    rows += _placements(heldout, reference, random_arms)
    table = pd.DataFrame([row for row in rows if row is not None], columns=COLUMNS)
    return adjust(table, reference, against)


def stack_heldout(frames: dict[tuple[str, int], pd.DataFrame], base: str = "base") -> pd.DataFrame:
    """`arm,seed,split,item,group,loss` from the heldout.parquet of each (arm, seed): the last step, and step 0 as
    `base`.

    Every run measures the same base model at step 0, so base is their mean over runs.
    """
    ends, starts = [], []
    for (arm, seed), frame in frames.items():
        ends.append(frame[frame["step"] == frame["step"].max()].assign(arm=arm, seed=seed))
        starts.append(frame[frame["step"] == 0])
    columns = ["arm", "seed", "split", "item", "group", "loss"]
    if not frames:
        return pd.DataFrame(columns=columns)
    untrained = pd.concat(starts, ignore_index=True).groupby(["split", "item"], sort=False, as_index=False)
    untrained = untrained.agg({"group": "first", "loss": "mean"}).assign(arm=base, seed=0)
    return pd.concat([untrained, *ends], ignore_index=True)[columns]


def same_environment(environments: pd.DataFrame | None) -> None:
    """Raises InputError unless all evaluations share dtype and kind of device: their last digits differ, and items
    flip.
    """
    if environments is None or environments.empty:
        return
    for column in ("dtype", "device"):
        kinds = environments[column].astype(str).str.split(":").str[0]
        if kinds.nunique() > 1:
            places = [
                f"{kind} in {', '.join(sorted(set(environments['arm'][kinds == kind])))}" for kind in sorted(set(kinds))
            ]
            raise InputError(
                f"evaluations of different {column}: {'; '.join(places)}; allowed: one {column}, evaluate again on it"
            )


def adjust(table: pd.DataFrame, reference: str, against: Sequence[str]) -> pd.DataFrame:
    """The table with `family` and `p_adjusted`: Holm over the composite accuracy of the reference against the arms
    named.
    """
    chosen = (table["arm_a"] == reference) & table["arm_b"].isin(list(against))
    chosen &= (table["benchmark"] == "composite") & (table["outcome"] == "accuracy")
    adjusted = np.full(len(table), np.nan)
    adjusted[chosen.to_numpy()] = holm(table.loc[chosen, "p"].to_numpy(float))
    return table.assign(family=np.where(chosen, "primary", "exploratory"), p_adjusted=adjusted)


def rank_p(value: float, draws: Sequence[float]) -> float:
    """P of a loss as low as `value` among losses of random placements: (1 + #{draw <= value}) / (R + 1), never below 1
    / (R + 1).
    """
    return (1 + sum(draw <= value for draw in draws)) / (len(draws) + 1)


def _placements(heldout: pd.DataFrame | None, reference: str, random_arms: Sequence[str]) -> list[dict]:
    """One row for each family of random draws: the rank of the reference's held-out loss among theirs."""
    if heldout is None or heldout.empty:
        return []
    test = heldout[heldout["split"] == "test"]
    loss = test.groupby(["arm", "seed"])["loss"].mean()
    families: dict[str, list[str]] = {}
    for arm in random_arms:
        if DRAW.fullmatch(arm):
            families.setdefault(DRAW.fullmatch(arm)[1], []).append(arm)
    rows = []
    for name, arms in families.items():
        found = loss[loss.index.get_level_values("arm").isin(arms)]
        if reference not in loss.index.get_level_values("arm") or found.empty:
            continue
        own, drawn = loss[reference].to_numpy(float), found.to_numpy(float)
        row = {"arm_a": reference, "arm_b": name, "benchmark": "heldout", "outcome": "heldout_loss"}
        row |= {"difference": own.mean() - drawn.mean(), "p": rank_p(own.mean(), drawn), "n_draws": len(drawn)}
        row |= {"n_items": test["item"].nunique(), "n_seeds": len(own), "n_units": len(drawn)}
        if min(len(own), len(drawn)) > 1:
            welch = stats.ttest_ind(own, drawn, equal_var=False)
            ends = (welch.confidence_interval(0.95), welch.confidence_interval(0.90))
            row |= dict(zip(("ci_low", "ci_high", "ci90_low", "ci90_high"), (*ends[0], *ends[1]), strict=True))
            row |= {"se": row["difference"] / welch.statistic if welch.statistic else float("nan"), "df": welch.df}
        rows.append(row | {"note": f"p is the rank among {len(drawn)} random placements"})
    return rows


def _need_columns(table: pd.DataFrame, columns: Sequence[str], name: str) -> None:
    missing = [column for column in columns if column not in table]
    if missing:
        raise InputError(f"{name}: columns {missing} are missing; found {list(table.columns)}")


def _pairs(
    arms: list[str], reference: str, base: str, also: Sequence[tuple[str, str]], aliases: dict[str, str]
) -> dict[tuple[str, str], dict]:
    """(arm_a, arm_b) to the weight of each arm."""
    also = [tuple(aliases.get(arm, arm) for arm in pair) for pair in also]
    pairs = [(reference, arm) for arm in arms if reference in arms and arm not in (reference, base)]
    pairs += [(arm, base) for arm in arms if base in arms and arm != base]
    pairs += [(a, b) for a, b in also if a in arms and b in arms and a != b]
    named = {pair: {pair[0]: 1.0, pair[1]: -1.0} for pair in dict.fromkeys(pairs)}
    run = [*(aliases.get(arm, arm) for arm in SYNERGY), base]
    if set(run) <= set(arms):
        both, lora, garfa = SYNERGY
        named[f"{both} - {lora}", f"{garfa} - {base}"] = dict(zip(run, (1.0, -1.0, -1.0, 1.0), strict=True))
    return named


def _tables(evaluations: pd.DataFrame, base: str) -> dict[str, list[Scores]]:
    """Outcome to the Scores of each benchmark that has it."""
    found: dict[str, list[Scores]] = {outcome: [] for outcome in OUTCOMES}
    for benchmark, rows in evaluations.groupby("benchmark", sort=False):
        for outcome, column in OUTCOMES.items():
            table = scores(rows, column, str(benchmark), outcome, base)
            if table is not None:
                found[outcome].append(table)
    return found


def _cells(tables: dict[str, list[Scores]], heldout: pd.DataFrame | None, base: str):
    """((benchmark, outcome), Scores of its parts): benchmarks, then domains, then the composite, then held-out loss."""
    for outcome, found in tables.items():
        for table in found:
            yield (table.benchmark, outcome), [table]
        for name in DOMAINS if outcome == "accuracy" else ():
            part = [table for table in found if domain(table.benchmark) == name]
            if len(part) > 1:
                yield (f"composite_{name}", outcome), part
        if found:
            yield ("composite", outcome), found
    if heldout is not None and len(heldout):
        _need_columns(heldout, ["arm", "seed", "split", "item", "loss"], "heldout")
        table = scores(heldout[heldout["split"] == "test"], "loss", "heldout", "heldout_loss", base)
        if table is not None:
            yield ("heldout", "heldout_loss"), [table]


def _row(name, weights, benchmark, outcome, tables, base, random_arms) -> dict | None:
    """One row, on the benchmarks that all its arms ran; None where there are none."""
    present = [table for table in tables if set(weights) <= set(table.values)]
    found = combination(present, weights, base, random_arms) if present else None
    if found is None:
        return None
    estimate, notes = found.estimate, list(found.notes)
    low, high = estimate.interval()
    low90, high90 = estimate.interval(0.90)
    p, one_benchmark = estimate.p, len(present) == 1
    if benchmark.startswith("composite"):
        notes.insert(0, f"composite of {count_in_words([table.benchmark for table in present])}")
    if len(present) < len(tables):
        notes.append(f"not run in both: {', '.join(table.benchmark for table in tables if table not in present)}")
    if len(found.seeds) == 1 and outcome == "accuracy" and one_benchmark and len(weights) == 2:
        p = mcnemar(found.d[0][0])
        notes.append("McNemar's exact test")
    return {
        "arm_a": name[0],
        "arm_b": name[1],
        "benchmark": benchmark,
        "outcome": outcome,
        "difference": estimate.difference,
        "ci_low": low,
        "ci_high": high,
        "p": p,
        "n_items": found.n_items,
        "n_seeds": len(found.seeds),
        "ci90_low": low90,
        "ci90_high": high90,
        "se": estimate.se,
        "df": estimate.df,
        "n_units": found.n_units,
        "note": "; ".join(notes),
    }
