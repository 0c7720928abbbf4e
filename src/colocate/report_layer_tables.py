"""Tables of the report on how far the layer profiles can be trusted, and on what print alone can show.

The same rules as in `colocate.report_tables`: text cells, rounded here, nothing where there is nothing.
"""

import pandas as pd

from colocate import formats as f
from colocate.figures.style import label
from colocate.report_tables import Table
from colocate.results import chosen_sets

WORDS = {
    "median_abs_r": "median size of the correlation given depth",
    "abs_median_r": "size of their median",
    "share_significant": "share with p at most 0.05",
}


def joint(inputs: dict) -> Table:
    """The joint test over all readings of the two quantities."""
    found = inputs["specification_curve"].get("joint") or {}
    rows = [
        [words, f.fixed(found[name]["value"], 2), f.fixed(found[name]["null_median"], 2), f.p_value(found[name]["p"])]
        for name, words in WORDS.items()
        if name in found
    ]
    n = f.number(found.get("n_specifications"))
    columns = ["of all readings together", "#found", "#median of unrelated profiles", "#p"]
    return Table(f"One joint test of {n} readings", columns, rows)


def variance(inputs: dict) -> Table:
    """How much of the spread of r_s each choice explains."""
    found = inputs["specification_curve"].get("variance_of_r_s") or {}
    choices = found.get("choices") or {}
    rows = [
        [label(name), f.number(share["levels"]), f.percent(share["alone"], 0), f.percent(share["unique"], 0)]
        for name, share in sorted(choices.items(), key=lambda item: -item[1]["alone"])
    ]
    caption = (
        f"What the choice of definition explains of the spread of r_s: {f.percent(found.get('together'), 0)} in all"
    )
    return Table(caption, ["choice", "#ways made", "#alone", "#beyond all other choices"], rows)


def selection(inputs: dict) -> Table:
    """How often each layer is among the highest when the items are drawn anew."""
    table = inputs["selection"]
    if not len(table):
        return Table("", [], [])
    wide = table.pivot(index="layer", columns="profile", values="probability")[list(dict.fromkeys(table["profile"]))]
    first = table.groupby("profile", sort=False).first()
    rows = [
        [str(layer), *(f.percent(value, 0) for value in row)]
        for layer, row in zip(wide.index, wide.values, strict=True)
    ]
    columns = ["layer", *(f"#{label(name)}, top {f.number(first['top'][name])}" for name in wide.columns)]
    return Table("How often each layer is chosen when the items are drawn anew", columns, rows)


def unsure(inputs: dict) -> str:
    """A sentence on the members of S and R that a new draw of items would often leave out."""
    table, sentences = inputs["selection"], []
    rows = inputs["correlations"]
    if not len(table) or not len(rows):
        return ""
    primary = rows[rows["primary"].astype(bool)].iloc[0]
    for letter, profile in (("S", primary["sensitivity"]), ("R", primary["rope"])):
        chosen = chosen_sets(inputs["layer_sets"], rows).get(letter)
        part = table[table["profile"] == profile].set_index("layer")["probability"]
        if chosen and len(part):
            doubtful = [layer for layer in chosen if part.get(layer, 0) < 0.9]
            n = f"{len(chosen) - len(doubtful)} of its {len(chosen)} layers"
            words = "is layer" if len(doubtful) == 1 else "are layers"
            tail = f"; less sure {words} {f.layers(doubtful)}." if doubtful else "."
            sentences.append(f"{letter}: {n} come out again in at least 9 of 10 draws of the items{tail}")
    return " ".join(sentences)


def domains(inputs: dict) -> Table:
    """Whether one scan serves every domain and language."""
    rows = []
    for row in inputs["domains"].to_dict("records"):
        if f.missing(row["b"]):
            rows.append([f"{label(row['profile'])}: {row['a']}", row["kind"], *[f.NONE] * 4, str(row.get("note"))])
            continue
        without = f.fixed(row["r_dis"], 2, True)
        if not f.missing(row["ci_low"]):
            without += f" ({f.interval(row['ci_low'], row['ci_high'], 2, True)})"
        cells = [row["kind"], f.fixed(row["r_s"], 2, True), without, f.fixed(row["jaccard"], 2)]
        n = f"{f.number(row['n_a'])} and {f.number(row['n_b'])}"
        note = "" if f.missing(row.get("note")) else str(row["note"])
        rows.append([f"{label(row['profile'])}: {row['a']} and {row['b']}", *cells, n, note])
    columns = [
        "profile, parts",
        "parts by",
        "#r_s",
        "#without item noise (95 %)",
        "#Jaccard of the top layers",
        "items",
        "note",
    ]
    return Table("The same metric on two domains, or two languages", columns, rows)


def twins(inputs: dict) -> Table:
    """The primary correlation in models that have learnt nothing, or whose layers were shuffled."""
    table, rows = inputs["twins"], []
    primary = inputs["correlations"]
    if len(table) and len(primary):
        own = primary[primary["primary"].astype(bool)].iloc[0]
        rows.append(["the model itself", f.fixed(own["r_s"], 2, True), f.fixed(own["partial_r_s"], 2, True)])
    words = {"random": "randomly initialised", "shuffled": "its layers in a random order"}
    for row in table.to_dict("records") if len(table) else ():
        name = f"{words[row['kind']]}, seed {row['seed']}"
        rows.append([name, f.fixed(row["r_s"], 2, True), f.fixed(row["partial_r_s"], 2, True)])
    return Table("What the architecture makes without any learning", ["model", "#r_s", "#r_s given depth"], rows)


def regret(inputs: dict) -> Table:
    """Every cheap metric scored by measured layer gain."""
    rows = []
    for row in inputs["regret"].to_dict("records"):
        value = f.fixed(row["regret"], 2)
        if not f.missing(row.get("ci_low")):
            value += f" ({f.interval(row['ci_low'], row['ci_high'], 2)})"
        note = "" if f.missing(row.get("note")) else str(row["note"])
        cells = [row["direction"], label(row["against"]), f.number(row["k"]), value, f.number(row["n_seeds"]), note]
        rows.append([label(row["metric"]), *cells])
    columns = ["metric", "its layers", "against", "#k", "#regret (95 % over seeds)", "#seeds", "note"]
    return Table("Regret of each metric: 0 = the best layers, 1 = no better than random ones", columns, rows)


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


def reanalysis(table: pd.DataFrame) -> Table:
    """What the printed numbers of the two studies can show, without any run."""
    rows = []
    for row in table.to_dict("records"):
        small = "p of" in row["quantity"] or "no common layer" in row["quantity"]
        digits = 2 if small or "correlation" in row["quantity"] or "CKA" in row["quantity"] else 1
        estimate = (
            f.p_value(row["estimate"]) if small and "printed" in row["quantity"] else f.fixed(row["estimate"], digits)
        )
        cells = [str(row["printed"]), f.number(row["n"]), f.number(row["count"]), estimate]
        cells += [f.interval(row["ci_low"], row["ci_high"], digits), row["comparison"], row["says"]]
        cells = ["" if f.missing(cell) else cell.replace("+-", "\N{PLUS-MINUS SIGN}") for cell in cells]
        study = {"rao2026": "Rao 2026", "zhao2026": "Zhao et al. 2026"}.get(row["study"], row["study"])
        rows.append([f"{study}: {row['quantity']}", *cells])
    columns = ["quantity", "as printed", "#n", "#count", "#estimate", "#95 % interval, or range", "how", "what it says"]
    return Table("From print alone: counts, intervals and p values behind the printed numbers", columns, rows)


def needed(table: pd.DataFrame) -> Table:
    """Items that each claim of accuracy would need, by number of seeds."""
    if not len(table):
        return Table("", [], [])
    wide = table.pivot(index="claim", columns="n_seeds", values="n_items").loc[list(dict.fromkeys(table["claim"]))]
    effect = table.groupby("claim").first()
    rows = [
        [
            label(claim),
            f"{f.number(effect['effect'][claim])} {effect['unit'][claim]}",
            *("never" if n == float("inf") else f.number(n) for n in wide.loc[claim]),
        ]
        for claim in wide.index
    ]
    columns = ["claim", "size", *(f"#{n} seed{'s' * (n > 1)}" for n in wide.columns)]
    return Table("Items a benchmark would need to show each claim four times in five, by training seeds", columns, rows)
