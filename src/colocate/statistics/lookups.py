"""Look-ups in contrasts.csv for the evidence on claims: oriented differences in points, with what they rest on."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pandas as pd

from colocate.statistics import benchmarks
from colocate.statistics.claims import Measurement, Part
from colocate.statistics.gates import Guessing


class Contrasts:
    """contrasts.csv by pair of arms and benchmark.

    validate_loss    mean held-out loss of each arm on validate: where the best of several arms is chosen, it is by that
    """

    def __init__(self, table: pd.DataFrame, reference: str, guessing: Guessing, validate_loss: dict[str, float]):
        self.reference, self.guessing, self.validate_loss = reference, guessing, validate_loss
        self.draws = table[table["n_draws"].notna()] if "n_draws" in table else table.head(0)
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

    def random_placement(self) -> Measurement | None:
        """The reference against random layers: the contrast, and the rank of its held-out loss among the random draws
        where there are any.
        """
        found = self.one(self.reference, "random", "composite")
        if found is None or self.draws.empty:
            return found and replace(found, draws=found.seeds)
        row = self.draws.loc[self.draws["n_draws"].idxmax()]
        detail = (
            f"{found.detail}; held-out loss {row['difference']:+.3f} nat from the mean of {row['n_draws']:.0f} draws"
        )
        return replace(found, detail=detail, draws=int(row["n_draws"]), p=float(row["p"]))

    def chosen(self, arms: Sequence[str], other: str) -> tuple[str, str] | None:
        """The arm among `arms` with the least held-out loss on validate, of those compared with `other`, and how it was
        chosen; the first in order where no losses are known.
        """
        run = [arm for arm in arms if self.find(arm, other, "composite")]
        if not run:
            return None
        known = [arm for arm in run if arm in self.validate_loss]
        if len(run) == 1 or len(known) < len(run):
            return run[0], f"{run[0]} fixed beforehand" if len(
                run
            ) == 1 else f"{run[0]}: losses on validate are not known"
        best = min(known, key=self.validate_loss.__getitem__)
        return best, f"{best} chosen of {len(run)} on validate"

    def best_of(self, arms: Sequence[str], other: str) -> Measurement | None:
        """The arm chosen on validate less `other`, on the composite."""
        chosen = self.chosen(arms, other)
        if chosen is None:
            return None
        found = self.one(chosen[0], other, "composite")
        return replace(found, detail=f"{chosen[1]}; {found.detail}")

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
