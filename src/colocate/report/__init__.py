"""The report of a study: one HTML file that holds everything (figures, styles) and asks the network
for nothing.

`write_report` reads the results of each model by `colocate.results.LAYOUT`, and of the study as a whole

    {results}/compute.csv, across_models.csv, reanalysis.csv, needed.csv, mixture/contamination.csv
    {results}/{model}/figures/{name}.svg

and fills `templates/report.html.j2`. One module a section, in the reader's order: `question`, `where`, `gains`,
`learned`, `advice`, `print_alone`, `method` (with `pairs`), `items`. Each has `section(...)`, which returns what its
partial template shows: sentences, and tables of text (`table.Table`). The same files give the same bytes. What is not
there (a figure, a table, a seed) is named in its place.
"""

import re
from pathlib import Path

from colocate.errors import InputError
from colocate.figures.style import label
from colocate.files import sha256, write_text
from colocate.report import (
    advice,
    bill,
    gains,
    items,
    learned,
    method,
    page,
    pairs,
    print_alone,
    question,
    scripts,
    where,
)
from colocate.report.table import Table, plain, read
from colocate.results import load_inputs


def write_report(
    results: str | Path,
    models: dict[str, dict],
    out: str | Path,
    *,
    config: dict,
    aliases: dict[str, str] | None = None,
    claims: str | Path | None = None,
    frozen: str | Path | None = None,
    default: dict | None = None,
    unfinished: Table | None = None,
) -> None:
    """Write the report of the study in `results` (results/{study}) to the HTML file `out`.

    models      {model: {wildcard: names that this study selects}}, in the order shown
    config      the merged config of the study
    aliases     {arm: the arm that stands for it}: entries that say the same under two names
    claims      the file of published claims and rules, to name its sha256
    frozen      the file of the specification fixed beforehand, to name its sha256
    default     the config of the default study, to say what differs
    unfinished  of a study that is not finished: what there is of it and what is missing, shown first
    """
    results = Path(results)
    if not models:
        raise InputError("report: no model is selected; name at least one under select.models")
    compute, general = read(results / "compute.csv"), read(results / "across_claims.csv")
    embed = len(models) == 1  # the files of many models would make the page too large to send
    shown = [
        _model(results / model, model, select, compute, general, config, embed) for model, select in models.items()
    ]
    outline = page.outline(shown)
    template = page.environment().get_template("report.html.j2")
    html = template.render(
        study=results.name,
        unfinished=unfinished,
        models=shown,
        several=len(shown) > 1,
        outline=outline,
        titles={topic: name for _, _, topics in outline for topic, name, _ in topics},
        across=plain("The models side by side", read(results / "across_models.csv")),
        aliases={label(arm): label(first) for arm, first in (aliases or {}).items()},
        print_alone=print_alone.section(results),
        method=method.section(results, compute, config, default, filter(None, (claims, frozen)), unfinished is None),
        claims_digest=sha256(claims) if claims else None,
        theme=sorted(page.THEME.items()),
        scripts=scripts.scripts(),
        policy=scripts.policy(),
        swatches={label(arm): page.swatch(arm) for select in models.values() for arm in select.get("arm", [])},
    )
    write_text(out, html)


def _model(folder: Path, model: str, select: dict, compute, general, config: dict, embed: bool) -> dict:
    """Everything that the template shows of one model: its figures, and the context of each section."""
    inputs = load_inputs(folder, select=select)
    inputs["claims"] = question.with_general(inputs["claims"], general)
    slug = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")
    own = compute[compute["model"] == model] if len(compute) else compute
    return {
        "name": model,
        "slug": slug,
        "figures": page.figures(folder / "figures", slug, embed),
        "question": question.section(inputs, config, slug),
        "where": where.section(inputs),
        "gains": gains.section(inputs)
        | {"compute": bill.compute_by_arm(inputs, own), "per_point": bill.per_point(inputs, own)},
        "learned": learned.section(inputs),
        "advice": advice.section(inputs),
        "pairs": pairs.section(folder, config, inputs["correlations"]),
        "items": items.section(folder, select, config.get("benchmarks", {}), inputs["contrasts"]),
    }
