"""Write rules.md and metrics.md, out of the workflow and of the registry of metrics. Run after a change of either.

python docs/make_reference.py [FOLDER]      FOLDER: instead of docs/
"""

import ast
import re
import sys
import textwrap
from pathlib import Path

import yaml

from colocate import config_schema, files
from colocate.profiles import METRICS

ROOT = Path(__file__).resolve().parents[1]
STAGES = {  # file of rules -> what it is about
    "models": "Models",
    "data": "Data",
    "profiles": "Layer profiles",
    "arms": "Layer sets and arms",
    "train": "Training",
    "evaluate": "Evaluation",
    "statistics": "Statistics",
    "figures": "Figures",
    "report": "Report",
}
WRITTEN = "<!-- Written by `python docs/make_reference.py`. -->\n\n"
NEEDS = {
    "pairs": "Measured on text pairs",
    "texts": "Measured on running texts",
    "examples": "Measured on training data",
    "arm": "Measured on a trained arm (or a released fine-tune) against its base",
}


def workflow_rules() -> tuple[list, set[str]]:
    """The rules of the default study that write files, as Snakemake parses them; names of those of the driver."""
    from snakemake.api import SnakemakeApi
    from snakemake.settings.types import OutputSettings, ResourceSettings, StorageSettings

    sys.argv = ["snakemake", "--dry-run"]  # the workflow asks whether jobs are going to run
    with SnakemakeApi(OutputSettings(quiet=None)) as api:
        parsed = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            storage_settings=StorageSettings(),
            snakefile=ROOT / "Snakefile",
            workdir=ROOT,
        )
        workflow = parsed._workflow
        return [rule for rule in workflow.rules if str(rule.output)], set(workflow._localrules)


def rules_page() -> str:
    rules, local = workflow_rules()
    study = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))["study"]
    text = [
        "# Rules\n\n",
        WRITTEN,
        "One rule is one script, `workflow/scripts/RULE.py`, which runs by hand as well (`--help`). Files are\n"
        "those of a study STUDY; `{...}` are wildcards. *driver*: runs where `snakemake` was started. *job*: goes to\n"
        "the cluster under `--profile slurm`. *model*: a job that loads the model, on a GPU where there is one. Every\n"
        "rule also writes its log and Snakemake's own measurements below `logs/STUDY/RULE/`. What each file holds:\n"
        "[files](files.md).\n",
    ]
    by_stage: dict[str, list] = {}
    for rule in rules:
        by_stage.setdefault(Path(str(rule.snakefile)).stem, []).append(rule)
    for stage in [*STAGES, *sorted(set(by_stage) - set(STAGES))]:
        text.append(f"\n## {STAGES.get(stage, stage.capitalize())}\n\n")
        text.append("| rule | what it does | reads | writes | runs |\n|---|---|---|---|---|\n")
        text += [_rule_row(rule, local, study) for rule in by_stage.get(stage, [])]
    return "".join(text)


def _rule_row(rule, local: set[str], study: str) -> str:
    docstring = ast.get_docstring(ast.parse((ROOT / f"workflow/scripts/{rule.name}.py").read_text(encoding="utf-8")))
    what = " ".join(docstring.split("\n\n")[0].split()).replace("|", "\\|")
    reads = ", ".join(f"`{name}`" for name, _ in rule.input._get_names()) or "-"
    named = rf"(?<=/){re.escape(study)}(?=[/.])"
    writes = "<br>".join(f"`{re.sub(named, 'STUDY', str(path))}`" for path in rule.output)
    writes = re.sub(r",[^}`]*}", "}", writes)  # wildcards without their constraints
    place = "driver" if rule.name in local else "model" if "nodes" in rule.resources else "job"
    return f"| `{rule.name}` | {what} | {reads} | {writes} | {place} |\n"


def metrics_page() -> str:
    described = config_schema.load()["properties"]["profiles"]["additionalProperties"]["properties"]
    text = [
        "# Layer metrics\n\n",
        WRITTEN,
        "A layer metric gives one value a layer. `l` is a layer, counted from 0; `h` a state that leaves it, before\n"
        "the final norm; `x` and `y` two states that are compared. The formulas in full, with shapes and variants,\n"
        "stand at the top of each module. Settings are keys of an entry of `profiles`; what each means is in\n"
        "[the configuration](../config/README.md). How to add one: [a metric of yours](add-metric.md).\n",
    ]
    for needs, title in NEEDS.items():
        text.append(f"\n## {title}\n")
        if needs == "arm":
            text.append("\nNamed in `select.arm_profiles`, without settings of their own.\n")
        for metric in METRICS.values():
            if metric.needs == needs:
                text.append(_metric_section(metric, described))
    return "".join(text)


def _metric_section(metric, described: dict) -> str:
    module = Path("../src", *metric.module.split(".")).with_suffix(".py")
    keys = [key for key in metric.settings if key in described] if metric.needs != "arm" else []
    items = "yes, so they can be resampled" if metric.items else "none; intervals come from halves of the data"
    lines = [
        f"\n### `{metric.name}`\n\n",
        f"```text\n{textwrap.fill(metric.formula, 100)}\n```\n\n",
        f"- High where: {metric.meaning}.\n",
        f"- Source: {metric.source}.\n",
        f"- Items: {items}.\n",
        f"- Module: [`{metric.module}`]({module.as_posix()})",
    ]
    lines.append(f"; the model is loaded as {metric.dtype}.\n" if metric.dtype else ".\n")
    if keys:
        lines.append(f"- Settings: {', '.join(f'`{key}`' for key in keys)}.\n")
    return "".join(lines)


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)
    for name, page in (("rules.md", rules_page()), ("metrics.md", metrics_page())):
        files.write_text(folder / name, page)


if __name__ == "__main__":
    main()
