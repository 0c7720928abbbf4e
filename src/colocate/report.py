"""The report of a study: one HTML file that holds everything (figures as SVG, styles) and asks the network for nothing.

`write_report` reads the results of each model by `colocate.results.LAYOUT`, and of the study as a whole

    {results}/compute.csv, across_models.csv, reanalysis.csv, needed.csv, mixture/contamination.csv
    {results}/{model}/figures/{name}.svg

turns them into sentences, tables (`colocate.report_tables`) and figures, and fills `templates/report.html.j2`. The
same files give the same bytes. What is not there (a figure, a table, a seed) is named in its place.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import yaml

from colocate import formats as f
from colocate import report_layer_tables as layer_tables
from colocate import report_tables as tables
from colocate.errors import InputError
from colocate.figures import FIGURES, style
from colocate.files import read_json, sha256, write_text
from colocate.results import load_inputs

TEMPLATE = Path(__file__).parent / "templates" / "report.html.j2"
# What a reader's theme replaces in a figure: the template gives each name a colour for light and for dark.
THEME = {
    name: getattr(style, name.upper())
    for name in ("ink", "muted", "grid", "paper", "blue", "orange", "green", "pink", "sky", "red")
}


def write_report(
    results: str | Path,
    models: dict[str, dict],
    out: str | Path,
    *,
    config: dict,
    aliases: dict[str, str] | None = None,
    records: Iterable[str | Path] = (),
    claims: str | Path | None = None,
) -> None:
    """Write the report of the study in `results` (results/{study}) to the HTML file `out`.

    models      {model: {wildcard: names that this study selects}}, in the order shown
    config      the merged config of the study
    aliases     {arm: the arm that stands for it}: entries that say the same under two names
    records     run records (`*.run.json`) whose package versions are listed
    claims      the file of published claims and rules, to name its sha256
    """
    from jinja2 import Environment, StrictUndefined

    results = Path(results)
    if not models:
        raise InputError("report: no model is selected; name at least one under select.models")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"prose": prose, "unbroken": unbroken}
    compute = _table(results / "compute.csv")
    parts = {model: compute[compute["model"] == model] if len(compute) else compute for model in models}
    chapters = [_chapter(results / model, model, select, parts[model], config) for model, select in models.items()]
    html = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        study=results.name,
        models=chapters,
        across=tables.plain("The models side by side", _table(results / "across_models.csv")),
        aliases={style.label(arm): style.label(first) for arm, first in (aliases or {}).items()},
        reanalysis=layer_tables.reanalysis(_table(results / "reanalysis.csv")),
        needed=layer_tables.needed(_table(results / "needed.csv")),
        contamination=_contamination(results / "mixture"),
        compute=tables.compute_by_rule(compute),
        config=yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=100),
        versions=versions(records),
        claims_digest=sha256(claims) if claims else None,
        theme=sorted(THEME.items()),
    )
    write_text(out, html)


def _table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path) if path.is_file() and path.stat().st_size > 1 else pd.DataFrame()


def _chapter(folder: Path, model: str, select: dict, compute: pd.DataFrame, config: dict) -> dict:
    """Everything that the template shows of one model."""
    inputs = load_inputs(folder, select=select)
    slug = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")
    named = {
        "profiles": tables.profiles(inputs),
        "correlations": tables.correlations(inputs),
        "p_values": tables.p_values(inputs),
        "arms": tables.arms(inputs),
        "benchmarks": tables.benchmarks(inputs),
        "evaluations": tables.evaluations(inputs),
        "primary": tables.contrasts(inputs, primary=True),
        "exploratory": tables.contrasts(inputs, primary=False),
        "alphas": tables.alphas(inputs),
        "claims": tables.claims(inputs),
        "untested": tables.untested(inputs),
        "sources": tables.sources(inputs),
        "compute": tables.compute_by_arm(inputs, compute),
        "power": tables.power(inputs),
        "candidates": tables.candidates(inputs),
        "specifications": tables.specifications(inputs),
    }
    more = ("joint", "variance", "selection", "domains", "twins", "regret", "tuning")
    named |= {name: getattr(layer_tables, name)(inputs) for name in more}
    return {
        "name": model,
        "slug": slug,
        "facts": facts(inputs, config),
        **_findings(inputs),
        "tables": named,
        "unsure": layer_tables.unsure(inputs),
        "frozen": _frozen(inputs["specification_curve"]),
        "figures": {name: figure(folder / "figures" / f"{name}.svg", name, slug) for name in FIGURES},
        "recommendation": inputs["recommendation"],
        "limits": limits(inputs, config),
        "reference": tables.reference(inputs),
        "tally": tables.tally(inputs),
        "direct": len(inputs["claims"])
        and not (inputs["claims"].query("scope == 'direct'")["verdict"] == "not_tested").all(),
    }


def _findings(inputs: dict) -> dict:
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


def _frozen(curve: dict) -> str:
    """A sentence on the specification that was fixed beforehand, with the digest of its file."""
    if not curve:
        return ""
    digest = curve["specification_sha256"]
    said = "The primary pair is the reading fixed beforehand"
    if not curve["primary_is_frozen"]:
        said = "The primary pair of this study is not the reading fixed beforehand"
    return f"{said}, in data/published/specification.yaml (sha256 {digest})."


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
        "theta": f.number(geometry.get("rope_theta")),
        "rope_type": geometry.get("rope_type", "default"),
        "n_benchmarks": len(benchmarks),
        "mini": [style.label(name) for name in mini],
        "full": [style.label(name) for name in benchmarks if name not in mini],
        "n_items": f.number(float(size.sum())),
        "seeds": max((len(part) for _, part in evaluations.groupby(["arm", "benchmark"])["seed"]), default=0),
    }


def limits(inputs: dict, config: dict) -> list[str]:
    """What this study cannot say, as far as its own numbers tell."""
    found = facts(inputs, config)
    said = [
        f"One model ({found['parameters']} parameters, {found['layers']} layers). No interval here covers other "
        "models: those over items say how well the profiles of this one are known."
    ]
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
        said.append(f"{style.label(benchmark)} has no score for {len(part)} of the evaluations ({status}).")
    said.append(
        "The published study prints no definition of RoPE influence. The ones used here are this project's; the "
        "table of correlations shows how much depends on the choice."
    )
    return said


def _contamination(folder: Path) -> dict:
    """How many training rows share a passage with which benchmark, and examples by id; `folder`: the mixture's."""
    counts, examples = (folder / f"contamination{name}.csv" for name in ("_counts", ""))
    return {
        "checked": examples.is_file(),
        "counts": tables.plain("Training rows that share a passage with a reference", _table(counts)),
        "table": tables.plain("Examples, by id", _table(examples)),
    }


def versions(records: Iterable[str | Path]) -> tables.Table:
    """Packages and their versions over all run records; more than one version of a package is shown as such."""
    found: dict[str, set[str]] = {}
    for path in records:
        for package, version in read_json(path).get("versions", {}).items():
            found.setdefault(package, set()).add(version)
    rows = [[package, ", ".join(sorted(found[package]))] for package in sorted(found)]
    return tables.Table("Software of the jobs", ["package", "version"], rows)


def figure(path: Path, name: str, slug: str) -> dict:
    """Title, caption and the inline SVG of one figure; no SVG where it has not been drawn."""
    entry = FIGURES[name]
    svg = inline_svg(path.read_text(encoding="utf-8"), f"{slug}-{name}", entry.title) if path.is_file() else None
    return {"id": f"{slug}-figure-{name}", "title": entry.title, "caption": entry.caption, "svg": svg}


def unbroken(cell: str) -> str:
    """A cell of numbers that breaks before its interval alone."""
    cell = cell.replace(" ", "\N{NO-BREAK SPACE}").replace("\N{NO-BREAK SPACE}(", " (")
    return re.sub(f"(?<=[0-9]){f.NONE}(?=[0-9])", f"\u2060{f.NONE}\u2060", cell)  # word joiners around the dash


def prose(text: str):
    """Text as HTML as people print it: r_s with a subscript, names of the config as words, true minus signs."""
    from markupsafe import Markup, escape

    text = re.sub(r"\br_(s|dis)\b", r"r<sub>\1</sub>", str(escape(text)))
    text = re.sub(r"\b[a-z][a-z0-9]*(?:_[a-z0-9]+)+\b", lambda name: style.label(name.group()), text)
    return Markup(re.sub(r"(?<![\w.)])-(?=\d)", f.MINUS, text))


def inline_svg(text: str, prefix: str, title: str) -> str:
    """A stand-alone SVG as an element of the page: own ids, an accessible name, colours of the theme, no fixed size."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    for before in (' id="', 'href="#', "url(#"):
        text = text.replace(before, f"{before}{prefix}-")
    for name, colour in THEME.items():
        text = re.sub(rf"(?<=: ){colour}\b", f"var(--{name})", text)
    opening = text[: text.index(">")]
    viewbox = re.search(r'viewBox="[^"]+"', opening).group()
    namespaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    head = f'<svg {namespaces} {viewbox} role="img" aria-label="{title}"'
    return head + text[len(opening) :]
