"""Verdicts on the published claims, by the rules that data/published/claims.csv states.

theta is a claim's estimand, oriented so that theta > 0 is the claim; [low, high] its 95 % interval; a the threshold,
the smallest published size; m the margin of what counts as nothing.

    reproduced     low > 0 and high >= a
    contradicted   high < a; `reversed` if high < 0, `absent` if the 90 % interval lies within [-m, m] (TOST, Lakens
                   2017), `smaller` if low > 0
    inconclusive   anything else
    not_tested     no estimate, or a gate failed; the gate is named

So P(reproduced | theta <= 0) and P(contradicted | theta = a) are at most 2.5 %. A rule `equivalence` asks whether theta
is 0 within a: reproduced if the 90 % interval lies within [-a, a], contradicted if the 95 % interval lies outside. A
rule `direction`, where no size was printed, judges the sign alone: reproduced if low > 0, contradicted if high < 0. An
exact part (a count, low = high) within m of 0 is absent. A
conjunction has parts: reproduced only if every part is, each at 5 % (intersection-union test, Berger & Hsu 1996),
contradicted if one part is at the Holm level, and its measured value is that of its weakest part.

Every claim has two rows. `direct`: the published model, mixture and benchmarks, or not_tested. `conceptual`: what this
study has instead, in other words: holds_here, does_not_hold_here, cannot_tell. A small model says nothing about layers
23-31 of Llama 3.1 8B, and a mini benchmark nothing about the benchmark it is named after.
"""

import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pandas as pd
from scipy import stats

from colocate.errors import InputError
from colocate.statistics.benchmarks import is_mini

COLUMNS = ["claim", "scope", "published", "measured", "ci_low", "ci_high", "threshold", "verdict", "why"]
EXTRA = ["label", "unit", "family", "text", "estimand", "source", "known", "evidence"]
RULES = ("size", "direction", "equivalence", "none")
SIZED = ("size", "equivalence")  # rules that need a threshold and a margin
HERE = {"reproduced": "holds_here", "contradicted": "does_not_hold_here", "inconclusive": "cannot_tell"}
_NEEDED = (
    "claim,text,source,known,scope_model,scope_mixture,scope_benchmarks,estimand,orientation,published,unit,"
    "threshold,margin,rule,family,conjunction,gates,p_max,evidence,needs"
)
NEEDED = _NEEDED.split(",")


@dataclass(frozen=True)
class Part:
    """One oriented estimate with its 95 and 90 % intervals; df of its t interval, infinite for a bootstrap."""

    label: str
    estimate: float
    low: float
    high: float
    low90: float
    high90: float
    df: float = float("inf")

    @classmethod
    def exact(cls, label: str, value: float) -> "Part":
        """A value without sampling error: a count, a sum of money."""
        return cls(label, *[value] * 5)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        return self.low, self.high, self.low90, self.high90

    def upper(self, level: float) -> float:
        """Upper end of the two-sided interval at `level`, the half-width scaled from that at 95 %."""
        return self.estimate + (self.high - self.estimate) * _widening(level, self.df)


@lru_cache
def _widening(level: float, df: float) -> float:
    """Half-width of a t interval at `level` over that at 95 %."""
    return float(stats.t.ppf(0.5 + level / 2, df) / stats.t.ppf(0.975, df))


def over_seeds(label: str, values: pd.Series) -> Part:
    """Mean of one value a seed (or another unit), with t intervals; NaN bounds with one."""
    mean, k = float(values.mean()), len(values)
    if k < 2:
        return Part(label, mean, *[float("nan")] * 4)
    halves = [float(stats.t.ppf(0.5 + level / 2, k - 1) * values.std(ddof=1) / math.sqrt(k)) for level in (0.95, 0.9)]
    return Part(label, mean, mean - halves[0], mean + halves[0], mean - halves[1], mean + halves[1], df=k - 1)


@dataclass(frozen=True)
class Measurement:
    """What a study measured of one claim: its parts (one, but for conjunctions), why others could not be had, and the
    basis in words.

    `missing` says why there is nothing at all; `seeds`, `draws` and `p` serve the gates and the p_max of a claim.
    """

    parts: tuple[Part, ...] = ()
    absent: tuple[str, ...] = ()
    detail: str = ""
    missing: str = ""
    seeds: int | None = None
    draws: int | None = None
    p: float | None = None


def read_claims(path: str | Path) -> pd.DataFrame:
    """claims.csv with its numbers as numbers (blank is NaN). Raises InputError naming the claim and column of a bad
    cell.
    """
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    missing = [column for column in NEEDED if column not in table]
    if missing:
        raise InputError(f"{path}: columns {missing} are missing")
    for column in ("threshold", "margin", "p_max"):
        numbers = pd.to_numeric(table[column], errors="coerce")
        _refuse(path, table[numbers.isna() & (table[column] != "")], column, "a number, or blank")
        table[column] = numbers
    _refuse(path, table[table["claim"].duplicated()], "claim", "each name once")
    _refuse(path, table[~table["rule"].isin(RULES)], "rule", ", ".join(RULES))
    _refuse(path, table[~table["conjunction"].isin(["yes", "no"])], "conjunction", "yes, no")
    for column in ("threshold", "margin"):
        _refuse(path, table[table["rule"].isin(SIZED) & table[column].isna()], column, "a number, for this rule")
    return table


def _refuse(path: str | Path, bad: pd.DataFrame, column: str, allowed: str) -> None:
    if len(bad):
        claim, found = bad.iloc[0][["claim", column]]
        found = repr(found) if isinstance(found, str) else "blank"
        raise InputError(f"{path}: claim {claim!r}, {column}: found {found}; allowed: {allowed}")


def judge(claims_csv: str | Path, evidence: dict, only: Collection[str] | None = None) -> pd.DataFrame:
    """A direct and a conceptual row for each claim, in the file's order; `only` names the evidence keys to judge.

    evidence    {"scope": {"model": str, "mixture": [str], "benchmarks": [str]}, "gates": {name: "" or why it failed},
                 "measurements": {evidence key: Measurement}}, as `colocate.statistics.evidence.evidence` makes it

    measured, ci_low, ci_high and threshold are oriented (see `estimand`) and in `unit`; `label` is reversed, absent,
    smaller or nothing.
    """
    rows = []
    for claim in read_claims(claims_csv).to_dict("records"):
        if only is not None and claim["evidence"] not in only:
            continue
        found = evidence["measurements"].get(claim["evidence"], Measurement())
        verdict, label, why = decide(claim, found, evidence["gates"])
        here = {"verdict": HERE.get(verdict, verdict), "why": why, "label": label} | _measured(found)
        there = here | {"verdict": verdict}
        elsewhere = outside(claim, evidence["scope"])
        if elsewhere:
            there = {"verdict": "not_tested", "why": elsewhere, "label": ""}
        stated = {column: claim[column] for column in COLUMNS + EXTRA if column in claim}
        rows += [stated | {"scope": "direct"} | there, stated | {"scope": "conceptual"} | here]
    return pd.DataFrame(rows, columns=COLUMNS + EXTRA)


def _measured(found: Measurement) -> dict:
    """Estimate and interval of the weakest part."""
    if not found.parts:
        return {}
    weakest = min(found.parts, key=lambda part: part.estimate)
    return {"measured": weakest.estimate, "ci_low": weakest.low, "ci_high": weakest.high}


def decide(claim: dict, found: Measurement, gates: dict[str, str]) -> tuple[str, str, str]:
    """(verdict, label, why) of one measurement under the rules of one claim."""
    if found.missing or not found.parts:
        return "not_tested", "", found.missing or f"needs {claim['needs']}; this study has none"
    unknown = [part.label for part in found.parts if not all(map(math.isfinite, part.bounds))]
    failed = failed_gates(claim["gates"], found, gates)
    if claim["rule"] == "none":
        failed.append("no threshold to judge by")
    if unknown:
        failed.append(f"no interval of {', '.join(unknown)}")
    if failed:
        return "not_tested", "", _join(*failed, found.detail)
    if claim["conjunction"] == "yes":
        verdict, label, why = _conjunction(claim, found)
    else:
        part = found.parts[0]
        verdict, label = _rule(claim, part)
        why = _reason(claim, part, verdict, label)
    tested = math.isnan(claim["p_max"]) or (found.p is not None and found.p <= claim["p_max"])
    if verdict == "reproduced" and not tested:
        p = "there is no p value" if found.p is None else f"p = {found.p:.3g}"
        verdict, why = "inconclusive", f"{why}, but {p}, needed: at most {claim['p_max']:g}"
    return verdict, label, _join(why, found.detail)


def _conjunction(claim: dict, found: Measurement) -> tuple[str, str, str]:
    a, unit, n = _threshold(claim), claim["unit"], len(found.parts) + len(found.absent)
    good = sum(_rule(claim, part)[0] == "reproduced" for part in found.parts)
    count = f"{good} of {n} parts hold"
    if found.absent:
        count += f", {len(found.absent)} could not be tested ({', '.join(dict.fromkeys(found.absent))})"
    holm = 1 - 0.05 / len(found.parts)
    worst = min(found.parts, key=lambda part: part.upper(holm))
    exact = next(
        (part for part in found.parts if part.low == part.high and _rule(claim, part)[0] == "contradicted"), None
    )
    if exact is not None:
        return "contradicted", _rule(claim, exact)[1], f"{exact.label} is {exact.estimate:.3g} {unit}; {count}"
    if worst.upper(holm) < a:
        label = _rule(claim, worst)[1]
        return "contradicted", label, f"{worst.label} lies below {a:g} {unit} at the Holm level; {count}"
    if good == n:
        return "reproduced", "", f"all of {n} parts hold"
    return "inconclusive", "", f"{count}, and none lies below {a:g} {unit} at the Holm level"


def _rule(claim: dict, part: Part) -> tuple[str, str]:
    if claim["rule"] == "equivalence":
        return rule_of_equivalence(part, claim["threshold"])
    if claim["rule"] == "direction":
        return rule_of_direction(part)
    return rule_of_size(part, claim["threshold"], claim["margin"])


def _threshold(claim: dict) -> float:
    return 0.0 if claim["rule"] == "direction" else claim["threshold"]


def rule_of_direction(part: Part) -> tuple[str, str]:
    """(verdict, label) of the sign of one estimate."""
    if part.low > 0:
        return "reproduced", ""
    return ("contradicted", "reversed") if part.high < 0 else ("inconclusive", "")


def rule_of_size(part: Part, a: float, m: float) -> tuple[str, str]:
    """(verdict, label) of one estimate against threshold a and margin m."""
    if part.low == part.high and abs(part.low) <= m:
        return "contradicted", "absent"
    if part.low > 0 and part.high >= a:
        return "reproduced", ""
    if part.high >= a:
        return "inconclusive", ""
    if part.high < 0:
        return "contradicted", "reversed"
    if -m <= part.low90 and part.high90 <= m:
        return "contradicted", "absent"
    return "contradicted", "smaller" if part.low > 0 else ""


def rule_of_equivalence(part: Part, a: float) -> tuple[str, str]:
    """(verdict, label) of the claim that theta is 0 within a (two one-sided tests)."""
    if -a <= part.low90 and part.high90 <= a:
        return "reproduced", ""
    if part.low > a or part.high < -a:
        return "contradicted", ""
    return "inconclusive", ""


def failed_gates(names: str, found: Measurement, gates: dict[str, str]) -> list[str]:
    """Why the gates named in a claim's cell, such as "reliability;seeds:2", do not open; a gate nobody could check does
    not open.
    """
    failed = []
    for gate in filter(None, names.split(";")):
        name, _, least = gate.partition(":")
        if name in ("seeds", "draws"):
            have = getattr(found, name)
            if have is None or have < int(least):
                failed.append(f"{name}: {have or 0}, needed: at least {least}")
        elif gates.get(name, "not checked"):
            failed.append(gates.get(name) or f"{name}: could not be checked")
    return failed


def outside(claim: dict, scope: dict) -> str:
    """Why a study's scope is not that of the published claim; empty where it is."""
    reasons = []
    if claim["scope_model"] != "any" and not _named(claim["scope_model"], [scope["model"]]):
        reasons.append(f"made on {claim['scope_model']}, this study has {scope['model']}")
    for key, what, have in (
        ("scope_mixture", "trained on", scope["mixture"]),
        ("scope_benchmarks", "scored on", [name for name in scope["benchmarks"] if not is_mini(name)]),
    ):
        lacking = [] if claim[key] == "any" else [name for name in claim[key].split(";") if not _named(name, have)]
        if lacking:
            reasons.append(f"{what} {', '.join(lacking)}, which this study {'has not' if have else 'does not use'}")
    return "; ".join(reasons)


def _named(name: str, where: list[str]) -> bool:
    """Whether a published name occurs in one of a study's names, letters and digits alone compared."""
    plain = [re.sub(r"[^a-z0-9]", "", text.lower()) for text in (name, *where)]
    return any(plain[0] in text for text in plain[1:])


def _reason(claim: dict, part: Part, verdict: str, label: str) -> str:
    a, m, unit = claim["threshold"], claim["margin"], claim["unit"]
    words = {
        ("size", "reproduced", ""): f"lies above 0 and reaches {a:g} {unit}",
        ("size", "inconclusive", ""): f"holds 0 and reaches {a:g} {unit}",
        ("size", "contradicted", "reversed"): "lies below 0 (reversed)",
        ("size", "contradicted", "absent"): f"lies below {a:g} {unit}, within {m:g} of nothing at 90 % (absent)",
        ("size", "contradicted", "smaller"): f"lies above 0 and below {a:g} {unit} (smaller)",
        ("size", "contradicted", ""): f"ends below {a:g} {unit}",
        ("direction", "reproduced", ""): "lies above 0 (no size was printed: the sign alone is judged)",
        ("direction", "inconclusive", ""): "holds 0",
        ("direction", "contradicted", "reversed"): "lies below 0 (reversed)",
        ("equivalence", "reproduced", ""): f"is within {a:g} {unit} of equality at 90 %",
        ("equivalence", "contradicted", ""): f"lies more than {a:g} {unit} from equality",
        ("equivalence", "inconclusive", ""): f"reaches both nearer and farther than {a:g} {unit}",
    }
    return f"interval [{part.low:.3g}, {part.high:.3g}] {words[claim['rule'], verdict, label]}"


def _join(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
