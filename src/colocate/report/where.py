"""Section 2: where is what. Layer profiles, how surely they choose layers, and how they go together."""

import pandas as pd

from colocate import formats as f
from colocate.figures.style import label
from colocate.report.table import Table
from colocate.results import chosen_sets


def section(inputs: dict) -> dict:
    """What section 2 shows of one model."""
    named = (profiles, selection, domains, correlations, p_values, joint, variance, specifications, twins)
    tables = {function.__name__: function(inputs) for function in named}
    return tables | {"unsure": unsure(inputs), "frozen": frozen(inputs["specification_curve"])}


def profiles(inputs: dict) -> Table:
    """One row a layer, one column a profile: value and 95 % interval."""
    tables = {name: table.set_index("layer") for name, table in inputs["profiles"].items()}
    layers = sorted(set().union(*(table.index for table in tables.values())))

    def cell(table: pd.DataFrame, layer: int) -> str:
        if layer not in table.index:
            return f.NONE
        row = table.loc[layer]
        bounds = "" if f.missing(row["ci_low"]) else f" ({f.number(row['ci_low'])} to {f.number(row['ci_high'])})"
        return f.number(row["value"]) + bounds

    rows = [[str(layer), *(cell(table, layer) for table in tables.values())] for layer in layers]
    columns = [
        "layer",
        *(f"#{label(name)}, n\u00a0=\u00a0{f.number(table['n'].max())}" for name, table in tables.items()),
    ]
    return Table("Layer profiles: value and 95 % interval over items", columns, rows)


def correlations(inputs: dict) -> Table:
    """Size of every correlation, the primary pair first."""
    rows = []
    for name, row in named_pairs(inputs["correlations"]):
        without = f.fixed(row["r_dis"], 2, True)
        if not f.missing(row["ci_low"]):
            without += f" ({f.interval(row['ci_low'], row['ci_high'], 2, True)})"
        reliability = f"{f.fixed(row['reliability_x'])} and {f.fixed(row['reliability_y'])}"
        cells = [f.fixed(row["r_s"], 2, True), f.fixed(row["partial_r_s"], 2, True), without, reliability]
        items = f"{f.number(row['n_items_x'])} and {f.number(row['n_items_y'])}"
        rows.append([name, *cells, items, f.number(row["n_layers"])])
    columns = ["profiles", "#r_s", "#r_s given depth", "#r without item noise (95 % interval over items)"]
    columns += ["reliability of each", "items of each", "#layers"]
    return Table("Rank correlations of sensitivity and RoPE influence", columns, rows)


def p_values(inputs: dict) -> Table:
    """All p values of every correlation, those that are not valid included and called so."""
    keys = ("p_depth", "p_depth3", "p_raw", "p_modified_t", "p_plain")
    rows = [[name, *(f.p_value(row[key]) for key in keys)] for name, row in named_pairs(inputs["correlations"])]
    columns = ["profiles", "#given depth, the primary test", "#given depth, cubic", "#surrogates", "#modified t"]
    return Table("Their p values", [*columns, "#plain t, as printed; not valid for neighbouring layers"], rows)


def named_pairs(table: pd.DataFrame):
    """(name of the pair in words, row), the primary pair first."""
    if len(table):
        for row in table.sort_values("primary", ascending=False, kind="stable").to_dict("records"):
            primary = " (primary)" if row["primary"] else ""
            yield f"{label(row['sensitivity'])} and {label(row['rope'])}{primary}", row


def specifications(inputs: dict) -> Table:
    """How r_s spreads over all readings of the two quantities: one row a pair of profiles."""
    table = inputs["specifications"]
    rows = []
    for (sensitivity, rope), part in table.groupby(["sensitivity", "rope"], sort=False) if len(table) else ():
        r = part["r_s"]
        cells = [f.number(len(part)), f.fixed(r.median(), 2, True), f.interval(r.min(), r.max(), 2, True)]
        cells += [f.percent((r <= -0.5).mean(), 0), f.percent((part["p_depth"] <= 0.05).mean(), 0)]
        rows.append([f"{label(sensitivity)} and {label(rope)}", *cells])
    columns = ["profiles", "#specifications", "#median r_s", "#range of r_s", "#share at or below −0.5"]
    columns.append("#share with p given depth at most 0.05")
    return Table("Other readings of the same two quantities: pooling, form, control, sign", columns, rows)


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


def frozen(curve: dict) -> str:
    """A sentence on the specification that was fixed beforehand, with the digest of its file."""
    if not curve:
        return ""
    digest = curve["specification_sha256"]
    said = "The primary pair is the reading fixed beforehand"
    if not curve["primary_is_frozen"]:
        said = "The primary pair of this study is not the reading fixed beforehand"
    return f"{said}, in data/published/specification.yaml (sha256 {digest})."
