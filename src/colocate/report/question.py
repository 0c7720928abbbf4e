"""Section 1: what was measured, the answer with its uncertainty, the verdicts on the published claims, the limits."""

import pandas as pd

from colocate import formats as f
from colocate.figures.style import label
from colocate.geometry import quantised
from colocate.report.table import Table

VERDICTS = (
    "reproduced",
    "contradicted",
    "inconclusive",
    "not_tested",
    "holds_here",
    "does_not_hold_here",
    "cannot_tell",
)


def section(inputs: dict, config: dict, slug: str) -> dict:
    """What section 1 shows of one model."""
    judged = inputs["claims"]
    return {
        "facts": facts(inputs, config),
        **findings(inputs),
        "tally": tally(inputs),
        "claims": claims(inputs, slug),
        "untested": untested(inputs),
        "sources": sources(inputs),
        "direct": len(judged) and not (judged.query("scope == 'direct'")["verdict"] == "not_tested").all(),
        "limits": limits(inputs, config),
    }


def facts(inputs: dict, config: dict) -> dict:
    """The banner: which model, how large, and what kind of benchmarks."""
    geometry, evaluations = inputs["geometry"], inputs["evaluations"]
    kinds = {"GQA": "grouped-query attention", "MQA": "multi-query attention", "MHA": "multi-head attention"}
    entries = config.get("benchmarks", {})
    benchmarks = list(dict.fromkeys(evaluations["benchmark"]))
    mini = [name for name in benchmarks if entries.get(name, {}).get("source", "builtin") == "builtin"]
    size = evaluations.dropna(subset="accuracy").groupby("benchmark")["n"].max()
    return {
        "source": geometry.get("source", "unknown source"),
        "parameters": f.scaled(geometry.get("n_params")),
        "layers": f.number(geometry.get("n_layers")),
        "heads": f.number(geometry.get("n_heads")),
        "kv_heads": f.number(geometry.get("n_kv_heads")),
        "attention": kinds.get(geometry.get("attention"), "attention"),
        "dtype": geometry.get("dtype", "unknown"),
        "quantised": quantised(geometry),
        "theta": by_kind_of_layer(geometry.get("rope_theta")),
        "rope_type": by_kind_of_layer(geometry.get("rope_type", "default")),
        "n_benchmarks": len(benchmarks),
        "mini": [label(name) for name in mini],
        "full": [label(name) for name in benchmarks if name not in mini],
        "n_items": f.number(float(size.sum())),
        "seeds": max((len(part) for _, part in evaluations.groupby(["arm", "benchmark"])["seed"]), default=0),
    }


def by_kind_of_layer(value) -> str:
    """A value of the geometry; in some families one for each kind of attention layer (Gemma 3)."""
    if not isinstance(value, dict):
        return f.number(value)
    return ", ".join(f"{f.number(one)} in {kind.replace('_', ' ')}" for kind, one in value.items())


def limits(inputs: dict, config: dict) -> list[str]:
    """What this study cannot say, as far as its own numbers tell."""
    found = facts(inputs, config)
    said = [
        f"One model ({found['parameters']} parameters, {found['layers']} layers). No interval here covers other "
        "models: those over items say how well the profiles of this one are known."
    ]
    if found["quantised"]:
        said.append(
            f"This model has {found['quantised']}: a coarser model than the one its authors released, whose profiles "
            "and scores may differ from those here."
        )
    if found["seeds"] == 1:
        said.append("One training seed: every contrast is about these very checkpoints, not about training again.")
    elif found["seeds"]:
        said.append(
            f"{found['seeds']} training seeds: their variance, pooled over the arms, is still known only roughly."
        )
    if found["mini"]:
        said.append(
            f"{len(found['mini'])} mini benchmarks, {found['n_items']} items in all, written for this project: easier "
            "and shorter than the published ones of similar names. No score here can be set beside a published score."
        )
    absent = inputs["evaluations"][inputs["evaluations"]["accuracy"].isna()]
    for (benchmark, status), part in absent.groupby(["benchmark", "status"]) if len(absent) else ():
        said.append(f"{label(benchmark)} has no score for {len(part)} of the evaluations ({status}).")
    said.append(
        "The published study prints no definition of RoPE influence. The ones used here are this project's; the "
        "table of correlations shows how much depends on the choice."
    )
    return said


def findings(inputs: dict) -> dict:
    """The answer, and the three findings under their headings; the statistics put them into words."""
    sentences = inputs["findings"]
    if not sentences and len(inputs["correlations"]):
        from colocate.statistics.findings import findings as put_in_words

        sentences = put_in_words(*(inputs[name] for name in ("correlations", "contrasts", "claims", "recommendation")))
    if not sentences:
        return {"answer": None, "findings": []}
    profiles, arms, advice = sentences
    answer, _, rest = profiles.partition(". ")
    brief = ". ".join(advice.split(". ")[:2]).rstrip(".") + "."  # all of it stands under Recommendation
    findings = [("The two profiles", rest), ("The arms", arms), ("What to adapt", brief)]
    return {"answer": f"{answer}.", "findings": findings}


# What a claim is judged by (column `evidence` of claims.csv) -> the topic of this page that shows it
EVIDENCE = {
    **dict.fromkeys(("anti_localization", "beyond_depth", "beyond_architecture"), "correlation"),
    **dict.fromkeys(("gqa_families", "gqa_minus_mha", "sizes"), "across"),
    **dict.fromkeys(("late_early", "one_scan"), "chosen"),
    "early_structural": "profiles",
    **dict.fromkeys(
        ("colocated_best", "recipe", "random_placement", "restricted_to_sensitive", "synergy"), "contrasts"
    ),
    **dict.fromkeys(("mid_block", "last_segment", "mid_block_gsm8k", "instruction_localised"), "contrasts"),
    **dict.fromkeys(("alphas_above_one", "alphas_peak"), "alphas"),
    **dict.fromkeys(("factual_regress", "gains_everywhere"), "forgetting"),
    "middle_stable": "changes",
    "haiku": "benchmarks",
    "mid_block_cheaper": "cost",
    "cost": "bill",
}
LINKS = {  # topic -> words of a link to it
    "correlation": "profiles compared",
    "across": "the models side by side",
    "chosen": "chosen layers",
    "profiles": "layer profiles",
    "contrasts": "contrasts",
    "alphas": "learned scales",
    "forgetting": "change from base",
    "changes": "layer changes",
    "benchmarks": "benchmarks",
    "cost": "cost of each arm",
    "bill": "what the study took",
}
OF_THE_STUDY = ("across", "bill")  # topics that are not about one model


def claims(inputs: dict, slug: str = "") -> Table:
    """Claims with a verdict in either setting: what was published, what was measured, and why the verdict is so."""
    judged = [(name, both) for name, both in _claims(inputs) if _tested(both)]
    with_direct = any(both.get("direct", {}).get("verdict", "not_tested") != "not_tested" for _, both in judged)
    rows = []
    for name, both in judged:
        here = both.get("conceptual") or both["direct"]
        unit = words(here.get("unit"))
        threshold = "the sign alone" if f.missing(here["threshold"]) else f"{here['threshold']:g} {unit}".strip()
        verdicts = [_verdict(both.get("conceptual", {}))] + [_verdict(both.get("direct", {}))] * with_direct
        link = _link(slug, EVIDENCE.get(words(here.get("evidence"))))
        measured = _measured(here, unit)
        rows.append([name, *verdicts, words(here["published"]), measured, threshold, words(here["why"]), link])
    columns = ["claim", "!here", *["!in the published setting"] * with_direct, "published"]
    columns += ["#measured here (95 % interval)", "smallest size that counts", "why", "@evidence"]
    return Table("Verdict on the published claims", columns, rows)


def _link(slug: str, topic: str | None) -> str:
    """`id|words` of a link to a topic of this page."""
    if topic is None:
        return ""
    return f"{topic if topic in OF_THE_STUDY else f'{slug}-{topic}'}|{LINKS[topic]}"


def untested(inputs: dict) -> Table:
    """Claims without a verdict in any setting, and what they need."""
    rows = []
    for name, both in _claims(inputs):
        if not _tested(both):
            row = both.get("conceptual") or both["direct"]
            rows.append([name, words(row["published"]), _measured(row, words(row.get("unit"))), words(row["why"])])
    columns = ["claim", "published", "#measured here, but not judged", "why it was not judged"]
    return Table("Published claims that this study cannot judge", columns, rows)


def sources(inputs: dict) -> Table:
    """Where each claim comes from, what was measured of it, and why its own setting has the verdict it has."""
    rows = [
        [name, *(words(both.get("direct", {}).get(key)) for key in ("source", "known", "estimand", "why"))]
        for name, both in _claims(inputs)
    ]
    columns = ["claim", "source", "how it is known", "what is measured", "the published setting"]
    return Table("Sources of the claims", columns, rows)


def _tested(both: dict) -> bool:
    return any(row["verdict"] != "not_tested" for row in both.values())


def words(value) -> str:
    return "" if f.missing(value) else str(value)


def _measured(row: dict, unit: str) -> str:
    digits = 1 if "point" in unit else 2
    bounds = "" if f.missing(row["ci_low"]) else f" ({f.interval(row['ci_low'], row['ci_high'], digits)})"
    return f.fixed(row["measured"], digits) + bounds


def tally(inputs: dict) -> dict:
    """How often each conceptual verdict fell, and how many claims could be tested in their published setting."""
    table = inputs["claims"]
    if not len(table):
        return {}
    verdicts = table[table["scope"] == "conceptual"]["verdict"]
    direct = (table[table["scope"] == "direct"]["verdict"] != "not_tested").sum()
    counts = [(label(verdict), int((verdicts == verdict).sum())) for verdict in (*VERDICTS[4:], "not_tested")]
    return {"n": len(verdicts), "counts": counts, "direct": int(direct)}


def with_general(claims: pd.DataFrame, general: pd.DataFrame) -> pd.DataFrame:
    """Claims of one model, those about several models or the whole study as judged over all (across_claims.csv)."""
    keys = ["claim", "scope"]
    if not len(claims) or not len(general):
        return claims
    both = pd.concat([general.reindex(columns=claims.columns), claims]).drop_duplicates(keys).set_index(keys)
    return both.loc[pd.MultiIndex.from_frame(claims[keys])].reset_index()[list(claims.columns)]


def _claims(inputs: dict):
    """(claim in words, {scope: row})."""
    table = inputs["claims"]
    for name, part in table.groupby("claim", sort=False) if len(table) else ():
        rows = {row["scope"]: row for row in part.to_dict("records")}
        text = next(iter(rows.values())).get("text")
        yield (label(str(name)) if f.missing(text) else str(text)), rows


def _verdict(row: dict) -> str:
    """A verdict in words, its sub-label in brackets."""
    if not row:
        return f.NONE
    if row["verdict"] not in VERDICTS:
        return str(row["verdict"])
    sub = row.get("label")
    return label(row["verdict"]) + ("" if f.missing(sub) or not sub else f" ({sub})")
