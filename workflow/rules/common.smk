"""What all rules share: the checked config, paths, the closed lists of wildcards, and the three digests of each rule."""

import functools
import gc
import json
import os
import re
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from colocate import config as configuration
from colocate import aliases, arm_checks, bill, cluster, config_files, devices, digests, driver, figures, files, gain
from colocate import hub_data, layer_sets, plan, progress_table, selection, tuning
from colocate import pairs as data_of_pairs
from colocate.errors import InputError
from colocate.figures import FIGURES
from colocate.profiles import METRICS
from colocate.results import LAYOUT

# In the order in which they were merged: those of the command line come last.
given = [str(path) for path in workflow.config_settings.configfiles]
CONFIG_FILES = [path for path in map(os.path.abspath, workflow.configfiles) if path not in given] + given

try:
    STUDY = configuration.complete(config, CONFIG_FILES)
    DATASETS = STUDY["datasets_root"] or os.environ.get("COLOCATE_DATASETS", "")  # a mirror, or nothing: then fetched
    if workflow.is_main_process:
        configuration.check_machine(STUDY, CONFIG_FILES, DATASETS, planning=not driver.runs_jobs(sys.argv[1:]))
        arm_checks.check(STUDY, CONFIG_FILES)
        bad_rows = data_of_pairs.check(*(STUDY["pairs"][kind] for kind in ("files", "paraphrases", "texts")))
        if bad_rows:
            raise InputError("pairs (files: config, pairs; rows: data/pairs/README.md)\n" + "\n".join(bad_rows))
        if driver.runs_jobs(sys.argv[1:]):
            files.check_places(["results", "reports", "resources", "logs", "scratch", ".snakemake"])
            driver.claim()
except InputError as error:
    raise WorkflowError(str(error)) from None

# A large study is millions of small objects that all live to the end: no looking for garbage until jobs run.
gc.disable()
plan.announce(STUDY)
progress_table.watch(workflow)
ROOT = Path(workflow.basedir).parent if Path(workflow.basedir).name == "workflow" else Path(workflow.basedir)
# Filled in when a job starts: Snakemake remembers a command without them, so that a moved checkout reruns nothing.
# glibc keeps freed blocks of up to 128 MiB for the next tensor: given back each time, they would be zeroed page by page.
shell.prefix(
    f"PYTHON={shlex.quote(sys.executable)}; SCRIPTS={shlex.quote(str(ROOT / 'workflow/scripts'))}; "
    "export MALLOC_MMAP_THRESHOLD_=134217728 MALLOC_TRIM_THRESHOLD_=1073741824; "
)
SELECT = STUDY["select"]
RESULTS = f"results/{STUDY['study']}"
BASE = f"{RESULTS}/{{model}}"
LOGS = f"logs/{STUDY['study']}"
SCRATCH = f"scratch/{STUDY['study']}"
SAME = aliases.same_arms(STUDY)
ARMS = sorted(set(SAME.values()), key=list(SAME).index)
SEEDS = STUDY["seeds"]
THREADS = STUDY["threads"]
STATISTICS = [
    "correlations.csv",
    "specifications.csv",
    "specification_curve.json",
    "twins.csv",
    "selection.csv",
    "stability.csv",
    "domains.csv",
    "regret.csv",
    "contrasts.csv",
    "forgetting.csv",
    "power.csv",
    "claims.csv",
    "recommendation.json",
    "findings.json",
]
# Relative to the checkout where the package lies in it, so that a moved one writes no new report.
PACKAGE = Path(os.path.relpath(Path(configuration.__file__).parent))
PACKAGE = PACKAGE.resolve() if PACKAGE.parts[0] == ".." else PACKAGE
TEMPLATES = sorted(map(str, (PACKAGE / "templates").iterdir()))
# A job of a model takes one GPU where models run on one. `auto` asks this machine; a cluster's profile says `cuda`.
CUDA = STUDY["device"] == "cuda" or (STUDY["device"] == "auto" and bool(devices.list_gpus()))


def cards(wildcards) -> int:
    """Cards that a job of this model asks for: those of the model where models run on a GPU, unless `gpus` says so."""
    if STUDY["gpus"] != "auto":
        return STUDY["gpus"]
    return STUDY["models"][wildcards.model]["gpus"] if CUDA else 0


GPU = cards


onstart:
    gc.enable()
    needed = [
        {"rule": job.rule.name, "wildcards": dict(job.wildcards.items())} for job in workflow.dag.needrun_jobs()
    ]
    bill.check_room(needed, STUDY)
    arm_checks.write(STUDY)
    # Compute nodes and containers may have what this machine lacks.
    if workflow.executor_plugin.name == "local" and not workflow.deployment_settings.deployment_method:
        of_models = [job for job in needed if job["rule"] in plan.MODEL_RULES]
        for doubt in configuration.check_programs(STUDY, CONFIG_FILES, of_models):
            print(f"Note: {doubt}", file=sys.stderr)
    if workflow.executor_plugin.name == "slurm":
        cluster.check_run(workflow)


wildcard_constraints:
    model="|".join(map(re.escape, STUDY["models"])),
    tuned="|".join(map(re.escape, STUDY["models"])),
    profile="|".join(map(re.escape, STUDY["profiles"])),
    layer_set="|".join(map(re.escape, STUDY["layer_sets"])),
    arm="|".join(map(re.escape, STUDY["arms"])),
    benchmark="|".join(map(re.escape, STUDY["benchmarks"])),
    seed=r"\d+",
    layer=rf"\d+|{gain.ALL}",
    gain="|".join(gain.PROFILES.values()),
    rate=r"\d+",
    twin=r"(random|shuffled)\d+",
    metric="|".join(name for name, metric in METRICS.items() if metric.needs == "arm"),
    figure="|".join(FIGURES),


def canonical(values) -> str:
    """The one spelling of a rule's settings: sorted JSON."""
    return json.dumps(values, sort_keys=True, ensure_ascii=True)


def command(script: str, inputs: str = "", outputs: str = "", label: str = "") -> str:
    """The command line of a rule: its script, one option for each named input and output, log, label and settings."""
    kinds = (("input", inputs), ("output", outputs))
    named = [f"--{name} {{{kind}.{name}:q}}" for kind, names in kinds for name in names.split()]
    fixed = [
        "--threads {threads}",
        "--gpus {resources.gpu}",
        "--log {log:q}",
        f"--label '{label}'",
        "--settings {params.cfg:q}",
    ]
    return " ".join([f'"$PYTHON" "$SCRIPTS"/{script}.py', *named, *fixed])


def code(script: str, *modules: str) -> str:
    return digests.code(ROOT / "workflow/scripts" / f"{script}.py", modules)


def env(script: str, *modules: str) -> str:
    return digests.environment(ROOT / "workflow/scripts" / f"{script}.py", modules)


def annexed(path: str, category: str, caption: str, **labels: str):
    """An output that Snakemake's own report shows, under a category, with the caption of workflow/report/."""
    return report(path, caption=f"../report/{caption}.rst", category=category, labels=labels)
