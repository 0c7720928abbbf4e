"""What it would take to settle each claim: items, seeds, hours and money beyond the study as it is configured.

Claims about accuracy, in points: the smallest difference that the study can show (colocate.statistics.power), from the
variance that an earlier run found (statistics/power.csv), or before one from its a-priori formula; with k' instead of
k seeds it is sqrt(k / k') times as large. More seeds are asked for first; where MOST of them do not do, more items.
Then every claim of data/published/claims.csv: what the study lacks and has of what it asks for, what only a run can
tell (statistics.claim_needs), and the verdict of an earlier run.
"""

import csv
from pathlib import Path

from colocate import work

CLAIMS = Path(__file__).resolve().parents[2] / "data/published/claims.csv"
MOST = 30  # seeds that anybody would run


def text(config: dict, per_seed: dict[str, tuple[float, float]]) -> list[str]:
    """Lines for people. per_seed: {model: (hours, cost) of one more seed of all trained arms}; {} if unknown."""
    claims = list(csv.DictReader(CLAIMS.open(encoding="utf-8", newline="")))
    said = ["", f"To settle each claim at 5 % and 80 % power (this study: {len(config['seeds'])} seeds)"]
    groups: dict[tuple[float, str], list[str]] = {}
    for claim in claims:
        if claim["unit"] == "points":
            size = float(claim["threshold"]) or float(claim["margin"])
            groups.setdefault((size, _benchmark(claim, config)), []).append(claim["claim"])
    for (size, benchmark), names in sorted(groups.items(), reverse=True):
        said.append(f"  {size:g} points on {benchmark} ({'; '.join(names)})")
        said += [f"    {line}" for line in _points(config, size, benchmark, per_seed)]
    said += ["", "What each claim asks of this study"]
    return said + [f"  {claim['claim']}: {_needs(config, claim, per_seed)}" for claim in claims]


def _benchmark(claim: dict, config: dict) -> str:
    """The selected benchmark that a claim names alone, or the composite of all."""
    named = claim["scope_benchmarks"].split(";")
    return named[0] if len(named) == 1 and named[0] in config["select"]["benchmarks"] else "the composite"


def _points(config: dict, size: float, benchmark: str, per_seed: dict) -> list[str]:
    said = []
    for model in config["select"]["models"]:
        seeds = len(config["seeds"])
        seen, basis = smallest_effect(config, model, benchmark, seeds)
        head = f"{model}: sees {seen:.1f} points ({basis})"
        if seen <= size:
            said.append(f"{head}: enough")
            continue
        enough = next((k for k in range(seeds + 1, MOST + 1) if _with_seeds(config, model, benchmark, k) <= size), None)
        if enough is None:
            said.append(f"{head}: {_items(size, seeds)}")
            continue
        hours, cost = per_seed.get(model, (None, None))
        price = ""
        if hours is not None:
            more = enough - seeds
            price = f", {more * hours:.1f} hours and {more * cost:.2g} {config['prices']['currency']} more"
        said.append(f"{head}: {enough} seeds{price}")
    return said


def _items(size: float, seeds: int) -> str:
    """More items, where more seeds alone do not do."""
    from colocate.statistics import power

    for k in sorted({seeds, 10, MOST}):
        items = power.items_needed(size / 100, k)
        if items < float("inf"):
            return f"more than {MOST} seeds with these items; or {items:.0f} items in all and {k} seeds"
    return "no number of items is enough: the seeds vary too much"


def smallest_effect(config: dict, model: str, benchmark: str, seeds: int) -> tuple[float, str]:
    """(points, basis): what a contrast of two arms can show, from an earlier run or before one."""
    from colocate.statistics import power

    name = "composite" if benchmark == "the composite" else benchmark
    path = Path("results") / config["study"] / model / "statistics/power.csv"
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if (row["benchmark"], row["outcome"]) == (name, "accuracy")]
        found = [float(row["mde"]) * (float(row["n_seeds"]) / seeds) ** 0.5 for row in rows if row["mde"]]
        if found:
            return 100 * sorted(found)[len(found) // 2], "median contrast of an earlier run"
    chosen = [benchmark] if name != "composite" else config["select"]["benchmarks"]
    items = {one: work.items_of(config["benchmarks"][one]) for one in chosen}
    return 100 * float(power.planned(items, seeds)["mde"].iloc[-1]), "before a run"


def _with_seeds(config: dict, model: str, benchmark: str, seeds: int) -> float:
    return smallest_effect(config, model, benchmark, seeds)[0]


def _needs(config: dict, claim: dict, per_seed: dict) -> str:
    """What a claim asks for: lacking (with the price of more seeds), there, left to a run; and an earlier verdict."""
    from colocate.statistics import claim_needs

    parts = claim_needs.of_claim(claim, config)
    lacking = [part.text + _price(config, part.seeds, per_seed) for part in parts if not part.there]
    have = [part.text for part in parts if part.there]
    said = ["lacks " + "; ".join(lacking)] if lacking else ["lacks nothing"]
    said += ["Has " + "; ".join(have)] if have else []
    decided = claim_needs.decided_by_a_run(claim)
    said += ["A run decides: " + "; ".join(decided)] if decided else []
    return ". ".join([*said, *_verdicts(config, claim)])


def _price(config: dict, seeds: int, per_seed: dict) -> str:
    if not seeds or not per_seed:
        return ""
    hours, cost = (sum(values[place] for values in per_seed.values()) for place in (0, 1))
    return f", {seeds * hours:.1f} hours and {seeds * cost:.2g} {config['prices']['currency']} more"


def _verdicts(config: dict, claim: dict) -> list[str]:
    """What an earlier run of the study found, of each model, or of the study as a whole."""
    study, found = Path("results") / config["study"], []
    places = {model: study / model / "statistics/claims.csv" for model in config["select"]["models"]}
    for name, path in ({"all": study / "across_claims.csv"} | places).items():
        if path.is_file():
            with path.open(encoding="utf-8", newline="") as file:
                rows = [row for row in csv.DictReader(file) if row["claim"] == claim["claim"]]
            found += [f"{name}: {row['verdict']}" for row in rows if row["scope"] == "conceptual"]
    return ["Earlier run: " + "; ".join(found)] if found else []
