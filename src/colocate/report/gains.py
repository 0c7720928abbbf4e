"""Section 3: what each choice of layers buys. Arms, benchmarks, contrasts and what they could have shown."""

from colocate import formats as f
from colocate.figures.layer_sets import tracks
from colocate.figures.style import label
from colocate.report.table import Table
from colocate.results import accuracies, reference_contrasts

OUTCOMES = {  # outcome -> words, factor, unit, decimals
    "accuracy": ("accuracy", 100, "points", 1),
    "gold_logprob": ("log-probability of the gold answer", 1, "nat", 3),
    "margin": ("margin of the gold answer", 1, "nat", 3),
    "heldout_loss": ("held-out loss", 1, "nat per token", 3),
}


def section(inputs: dict) -> dict:
    """What section 3 shows of one model."""
    named = (arms, tuning, benchmarks, evaluations, forgetting, power, reference, unseen)
    shown = {function.__name__: function(inputs) for function in named}
    return shown | {"primary": contrasts(inputs, primary=True), "exploratory": contrasts(inputs, primary=False)}


def arms(inputs: dict) -> Table:
    """What each arm adapts, and its budget; seeds with the same layers share a row."""
    rows = []
    shown = tracks(inputs)
    with_temperature = any(track["temperature"] for track in shown)
    for track in shown:
        arm = next(one for one in inputs["arms"] if one["arm"] == track["arm"] and one["seed"] == track["seeds"][0])
        deviation, n = arm.get("budget_deviation") or 0, arm["n_trainable"]
        share = f" ({f.percent(deviation / (n - deviation), 2)})" if deviation else ""
        cells = ["all weights" if track["full"] else f.layers(track["lora"]), f.layers(track["garfa"])]
        cells += [f.layers(track["temperature"])] * with_temperature
        cells += [_span(arm[key]) if track["lora"] else f.NONE for key in ("rank", "alpha")]
        rows.append([track["label"], *cells, f.number(n), f.number(deviation) + share, _rates(arm, track)])
    columns = ["arm", "LoRA layers", "GARFA layers", *["temperature layers"] * with_temperature]
    columns += ["#rank", "#LoRA alpha", "#trainable parameters", "#off its budget by", "learning rates"]
    return Table("What each arm trains", columns, rows)


def _rates(arm: dict, track: dict) -> str:
    """The learning rate of each part that the arm has."""
    if track["full"]:
        return f"{arm['lr_lora']:g}"
    said = [f"LoRA {arm['lr_lora']:g}"] if track["lora"] else []
    parts = [words for kind, words in (("garfa", "GARFA"), ("temperature", "temperature")) if track[kind]]
    return ", ".join(said + [f"{words} {arm['lr_garfa']:g}" for words in parts])


def _span(value) -> str:
    """One number, or the span of numbers by layer."""
    values = sorted(set(value.values())) if isinstance(value, dict) else [value]
    return f.number(values[0]) if len(values) == 1 else f"{f.number(values[0])} to {f.number(values[-1])}"


CHANCE = "\u2248\u00a0chance"


def benchmarks(inputs: dict) -> Table:
    """Arms x benchmarks: accuracy (mean over seeds), Wilson interval; last the mean of all benchmarks."""
    table = accuracies(inputs["evaluations"])
    names = list(dict.fromkeys(table["benchmark"]))
    rows = []
    for arm, part in table.groupby("arm", sort=False):
        cells = {row["benchmark"]: row for row in part.to_dict("records")}
        values = [cells[name]["accuracy"] if name in cells else float("nan") for name in names]
        mean = float("nan") if any(map(f.missing, values)) else 100 * sum(values) / len(values)
        seeds = max(len(row["by_seed"]) for row in cells.values())
        rows.append([label(arm), f.number(seeds), *(_accuracy(cells.get(name)) for name in names), f.fixed(mean, 1)])
    n = table.groupby("benchmark")["n"].max()
    columns = [
        "arm",
        "#seeds",
        *(f"#{label(name)}, n\u00a0=\u00a0{f.number(n[name])}" for name in names),
        "#mean of all",
    ]
    caption = f"Accuracy in per cent (95 % Wilson interval over items; {CHANCE}: no more than guessing)"
    return Table(caption, columns, rows)


def _accuracy(row: dict | None) -> str:
    if row is None:
        return "not evaluated"
    if f.missing(row["accuracy"]):
        return row["status"]
    accuracy, low, high = (f.fixed(100 * row[key], 1) for key in ("accuracy", "ci_low", "ci_high"))
    return f"{accuracy} ({low}–{high})" + f" {CHANCE}" * row["near_chance"]


def evaluations(inputs: dict) -> Table:
    """Every evaluation on its own."""
    rows = []
    for row in inputs["evaluations"].to_dict("records"):
        cells = [label(row["benchmark"]), f.number(row["n"]), f.percent(row["accuracy"]), f.percent(row["stderr"])]
        near = "near chance" if row.get("near_chance") is True else ""
        said = "; ".join(filter(None, [str(row["status"] or ""), near]))
        cells += [f.number(row.get("gold_logprob")), f.number(row.get("margin")), said]
        rows.append([f"{label(row['arm'])}, seed {row['seed']}", *cells])
    columns = ["arm", "benchmark", "#n", "#accuracy", "#standard error", "#gold log-probability (nat)", "#margin (nat)"]
    return Table("Every evaluation", [*columns, "status"], rows)


def contrasts(inputs: dict, primary: bool) -> Table:
    """Contrasts of the primary family, or all others."""
    table = inputs["contrasts"]
    table = table[(table["family"] == "primary") == primary] if len(table) else table
    rows = []
    for row in table.to_dict("records"):
        words, factor, unit, digits = OUTCOMES.get(row["outcome"], (label(row["outcome"]), 1, "", 3))
        difference = f"{f.fixed(factor * row['difference'], digits, True)} {unit}"
        bounds = f.interval(factor * row["ci_low"], factor * row["ci_high"], digits, True)
        cells = [f"{words}, {label(str(row['benchmark']))}", difference, bounds, f.p_value(row["p"])]
        cells += [f.p_value(row["p_adjusted"])] if primary else []
        note = row.get("note")
        cells += [f.number(row["n_items"]), f.number(row["n_seeds"]), "" if f.missing(note) else str(note)]
        rows.append([f"{label(row['arm_a'])} − {label(row['arm_b'])}", *cells])
    columns = ["contrast", "outcome", "#difference", "#95 % interval", "#p", *(["#p, Holm"] if primary else [])]
    caption = "Primary contrasts" if primary else "Exploratory contrasts: not corrected, they suggest and do not show"
    return Table(caption, [*columns, "#items", "#seeds", "note"], rows)


LANDMARKS = {
    "base": "the untrained base model",
    "standard_lora": "standard LoRA on all layers",
    "random": "a random placement",
}


def unseen(inputs: dict) -> str:
    """A sentence on the arms that every comparison should have and this study has not."""
    there = set(inputs["evaluations"].dropna(subset="accuracy")["arm"])
    absent = [words for arm, words in LANDMARKS.items() if arm not in there]
    return f"Not evaluated in this study: {', '.join(absent)}." if absent else ""


def forgetting(inputs: dict) -> list[Table]:
    """Each arm minus base on every benchmark: accuracy, beside it neutral text, then a table for each other outcome."""
    table, tables = inputs["forgetting"], []
    if not len(table):
        return tables
    first = table["outcome"].isin(["accuracy", "kl"])
    for words, part in [("", table[first]), *table[~first].groupby("outcome", sort=False)]:
        keys = list(dict.fromkeys(zip(part["benchmark"], part["outcome"], strict=True)))
        rows = []
        for arm, own in part.groupby("arm", sort=False):
            cells = {(row["benchmark"], row["outcome"]): row for row in own.to_dict("records")}
            rows.append([label(arm), *(_change(cells.get(key)) for key in keys)])
        names = ("neutral text" if name == "neutral_kl" else label(name) for name, _ in keys)
        columns = [f"#{name} ({_unit(kind)})" for name, (_, kind) in zip(names, keys, strict=True)]
        about = f", {OUTCOMES[words][0]}" if words in OUTCOMES else ""
        caption = f"Change from the untrained model{about} (95 % interval over items and seeds)"
        tables.append(Table(caption, ["arm", *columns], rows))
    return tables


def _unit(outcome: str) -> str:
    return OUTCOMES[outcome][2] if outcome in OUTCOMES else "nat per token"


def _change(row: dict | None) -> str:
    if row is None or f.missing(row["difference"]):
        return f.NONE
    _, factor, _, digits = OUTCOMES.get(row["outcome"], ("", 1, "", 3))
    bounds = f.interval(factor * row["ci_low"], factor * row["ci_high"], digits, True)
    return f"{f.fixed(factor * row['difference'], digits, True)} ({bounds})"


def power(inputs: dict) -> Table:
    """The smallest difference that contrasts with the reference arm can show, by benchmark and outcome."""
    table = inputs["power"]
    name, _ = reference_contrasts(inputs["contrasts"])
    table = table[table["arm_a"] == name] if len(table) else table
    rows = []
    for (benchmark, outcome), part in table.groupby(["benchmark", "outcome"], sort=False) if len(table) else ():
        words, factor, unit, digits = OUTCOMES.get(outcome, (label(outcome), 1, "", 3))
        low, high = (f.fixed(factor * value, digits) for value in (part["mde"].min(), part["mde"].max()))
        span = low if low == high else f"{low} to {high}"
        cells = [words, f"{span} {unit}", f.number(part["n_items"].max()), f.number(part["n_seeds"].max())]
        rows.append([label(str(benchmark)), *cells])
    columns = ["benchmark", "outcome", "#smallest difference it can show", "#items", "#seeds"]
    return Table("Power: what a contrast with the reference arm would show four times in five, at 5 %", columns, rows)


def reference(inputs: dict) -> str:
    """The arm that the primary contrasts test, in words, or nothing."""
    name, _ = reference_contrasts(inputs["contrasts"])
    return label(name) if name else ""


def tuning(inputs: dict) -> Table:
    """Learning rates that were tuned on the validation split, those at the edge of their grid flagged."""
    rows = []
    for arm in inputs["arms"]:
        found = arm.get("tuning")
        if not found:
            continue
        grid = [f"{one['lr_lora']:g} and {one['lr_garfa']:g}: {f.fixed(one['loss'], 3)}" for one in found["grid"]]
        chosen = found["grid"][found["chosen"]]
        edge = ", ".join(label(name) for name in found["at_edge"])
        flag = f"at the edge of its grid ({edge}): a better rate may lie beyond" if edge else "inside its grid"
        cells = [f"{chosen['lr_lora']:g} and {chosen['lr_garfa']:g}", flag, "; ".join(grid)]
        rows.append([f"{label(arm['arm'])}, seed {arm['seed']}", *cells])
    columns = ["arm", "rates chosen, LoRA and GARFA", "where", "validate loss of every pair of rates (nat per token)"]
    return Table("Learning rates, tuned on the validation split", columns, rows)
