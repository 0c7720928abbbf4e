"""What a study measured of each published claim: oriented estimates with intervals, for
`colocate.statistics.claims.judge`.

Accuracy differences are in points, correlations as they are, alphas as logarithms. What rests on arms is looked up in
the contrasts (class `Contrasts`); what rests on profiles, alphas or CKA is in `colocate.statistics.measurements`.
"""

from collections.abc import Iterable
from dataclasses import replace

import pandas as pd

from colocate.statistics import benchmarks, measurements
from colocate.statistics.claims import Measurement, Part
from colocate.statistics.contrasts import SYNERGY
from colocate.statistics.gates import Guessing, profile_gates, set_gates

CROSS_ARMS = ("lora_sensitive_garfa_positional", "lora_positional_garfa_sensitive", "positional_both")
PLACEMENTS = ("early", "late", "spaced", "standard_lora")


def evidence(
    *,
    correlations: pd.DataFrame,
    contrasts: pd.DataFrame,
    profiles: dict[str, pd.DataFrame],
    items: dict[str, pd.DataFrame | None],
    layer_sets: dict[str, dict],
    alphas: pd.DataFrame,
    summaries: pd.DataFrame,
    scope: dict,
    cka: pd.DataFrame | None = None,
    item_domains: dict[str, str] | None = None,
    placement: dict | None = None,
    reference: str = "colocated",
    base: str = "base",
    sensitive: str = "sensitive",
    positional: str = "positional",
    seed: int = 0,
) -> dict:
    """{"scope", "gates", "measurements"} for `colocate.statistics.claims.judge`.

    correlations, contrasts   the tables of those names
    profiles, items           name to `layer,value`, and to `item,layer,value` or None
    layer_sets                name to {"layers": [...]}; `sensitive` and `positional` name S and R
    alphas                    arm,seed,layer,kv_head,alpha
    summaries                 arm,seed,benchmark,accuracy,n; an optional column `chance` overrides the known levels of
                              guessing
    scope                     {"model": name and source, "mixture": [sources], "benchmarks": [names]}
    cka                       arm,seed,layer,value: debiased CKA with base
    item_domains              item to domain, for the items of the primary sensitivity profile
    placement                 {"draws": R, "rank_p": p} of the random draws (`colocate.statistics.contrasts.rank_p`)
    """
    summaries = summaries.assign(accuracy=pd.to_numeric(summaries["accuracy"], errors="coerce"))
    rows = correlations[correlations["primary"].astype(bool)] if len(correlations) else correlations
    primary = rows.iloc[0].to_dict() if len(rows) else None
    sets = {
        letter: layer_sets[name]["layers"]
        for letter, name in (("S", sensitive), ("R", positional))
        if name in layer_sets
    }
    guessing = Guessing(summaries, base)
    table = Contrasts(contrasts, reference, base, guessing)
    gates = profile_gates(primary) | set_gates(sets) | {"chance": guessing.failed()}
    measured = measurements.correlations(primary)
    measured["late_early"] = measurements.late_early(primary, profiles, items, sets, seed)
    measured["one_scan"] = measurements.one_scan(primary, items, item_domains, seed)
    measured |= {
        "colocated_best": table.conjunction([(reference, arm) for arm in CROSS_ARMS], each_benchmark=True),
        "random_placement": table.random_placement(placement),
        "synergy": table.one(f"{reference} - {SYNERGY[1]}", f"{SYNERGY[2]} - {base}", "composite"),
        "factual_regress": table.conjunction([(base, reference)], each_benchmark=True, domain="knowledge"),
        "restricted_to_sensitive": table.conjunction([(reference, arm) for arm in PLACEMENTS]),
        "mid_block": table.one("mid_block", "standard_lora", "composite"),
        "mid_block_gsm8k": table.published_benchmark("mid_block", "standard_lora", "gsm8k"),
        "gains_everywhere": table.domains(reference, base),
        "recipe": table.one(CROSS_ARMS[0], reference, "composite"),
        "haiku": measurements.haiku(summaries, reference),
        "alphas_above_one": measurements.alphas_above_one(alphas, reference),
        "alphas_peak": measurements.alphas_peak(alphas, reference, sets.get("S")),
        "middle_stable": measurements.middle_stable(cka),
    }
    return {"scope": scope, "gates": gates, "measurements": {key: value for key, value in measured.items() if value}}


class Contrasts:
    """Look-ups in contrasts.csv, in points and oriented."""

    def __init__(self, table: pd.DataFrame, reference: str, base: str, guessing: Guessing):
        self.table, self.reference, self.base, self.guessing = table, reference, base, guessing
        accuracy = table[table["outcome"] == "accuracy"]
        self.rows = {(row["arm_a"], row["arm_b"], row["benchmark"]): row for row in accuracy.to_dict("records")}
        self.benchmarks = [name for name in dict.fromkeys(accuracy["benchmark"]) if not name.startswith("composite")]

    def find(self, a: str, b: str, benchmark: str) -> tuple[Part, dict] | None:
        """a - b in points, whichever way round the table has it."""
        for key, sign in (((a, b, benchmark), 100), ((b, a, benchmark), -100)):
            if key in self.rows:
                row = self.rows[key]
                ends = [
                    sorted((sign * row[low], sign * row[high]))
                    for low, high in (("ci_low", "ci_high"), ("ci90_low", "ci90_high"))
                ]
                label = f"{a} - {b} on {benchmark}"
                return Part(label, sign * row["difference"], *ends[0], *ends[1], df=row["df"]), row
        return None

    def one(self, a: str, b: str, benchmark: str) -> Measurement | None:
        found = self.find(a, b, benchmark)
        if found is None:
            return None
        part, row = found
        return Measurement((part,), detail=_basis(part.label, row), seeds=int(row["n_seeds"]))

    def conjunction(
        self, pairs: Iterable[tuple[str, str]], each_benchmark: bool = False, domain: str | None = None
    ) -> Measurement | None:
        """Every pair, on the composite or on each benchmark of a domain; one that base only guesses is absent."""
        names = [name for name in self.benchmarks if domain is None or benchmarks.domain(name) == domain]
        names = names if each_benchmark else ["composite"]
        parts, rows, absent = [], [], []
        for a, b in pairs:
            for name in names:
                found = self.find(a, b, name)
                if found is None:
                    absent.append(f"{a} against {b} was not run")
                elif each_benchmark and not self.guessing.above(name):
                    absent.append(f"base is not above chance on {name}")
                else:
                    parts.append(found[0])
                    rows.append(found[1])
        if not parts:
            guessed = [reason for reason in dict.fromkeys(absent) if "chance" in reason]
            return Measurement(missing="; ".join(guessed)) if guessed else None
        weakest = min(range(len(parts)), key=lambda i: parts[i].estimate)
        detail = f"weakest of {len(parts)}: {_basis(parts[weakest].label, rows[weakest])}"
        return Measurement(tuple(parts), tuple(absent), detail, seeds=min(int(row["n_seeds"]) for row in rows))

    def random_placement(self, placement: dict | None) -> Measurement | None:
        """The reference against random layers: the contrast, the number of draws, and the rank p of held-out loss where
        there is one.
        """
        found = self.one(self.reference, "random", "composite")
        if found is None:
            return None
        return (
            replace(found, draws=placement["draws"], p=placement["rank_p"])
            if placement
            else replace(found, draws=found.seeds)
        )

    def published_benchmark(self, a: str, b: str, name: str) -> Measurement | None:
        """a - b on the published benchmark whose name holds `name`; a mini benchmark does not count."""
        names = [found for found in self.benchmarks if name in found.lower() and not benchmarks.is_mini(found)]
        return self.one(a, b, names[0]) if names else None

    def domains(self, a: str, b: str) -> Measurement | None:
        """a - b on the composite of each domain, or on its one benchmark."""
        parts, rows, absent = [], [], []
        for domain in benchmarks.DOMAINS:
            names = [name for name in self.benchmarks if benchmarks.domain(name) == domain]
            found = self.find(a, b, f"composite_{domain}") or (self.find(a, b, names[0]) if names else None)
            if found is None:
                absent.append(f"{domain}: not run")
            else:
                parts.append(found[0])
                rows.append(found[1])
        if not parts:
            return None
        detail = ", ".join(f"{part.label} {part.estimate:+.1f}" for part in parts)
        return Measurement(tuple(parts), tuple(absent), detail, seeds=min(int(row["n_seeds"]) for row in rows))


def _basis(label: str, row: dict) -> str:
    seeds = "1 seed, these two checkpoints" if row["n_seeds"] == 1 else f"{row['n_seeds']} seeds"
    note = str(row.get("note") or "").split(";")[0]
    return f"{label}, {row['n_items']} items, {seeds}" + (f" ({note})" if note.startswith("composite") else "")
