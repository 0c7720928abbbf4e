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
from colocate import cluster, devices, digests, driver, files, gain, hub_data, layer_sets, plan, progress_table, tuning
from colocate import pairs as data_of_pairs
from colocate.errors import InputError
from colocate.figures import FIGURES
from colocate.profiles import METRICS
from colocate.results import LAYOUT

try:
    STUDY = configuration.complete(config)
    if workflow.is_main_process:
        bad_rows = data_of_pairs.check(*(STUDY["pairs"][kind] for kind in ("files", "paraphrases", "texts")))
        if bad_rows:
            raise InputError(f"{len(bad_rows)} bad rows:\n" + "\n".join(bad_rows))
        if driver.runs_jobs(sys.argv[1:]):
            files.check_places(["results", "reports", "resources", "logs", "scratch", ".snakemake"])
            driver.claim()
except InputError as error:
    raise WorkflowError(str(error)) from None

# A large study is millions of small objects that all live to the end: looking for garbage among them costs a fifth of
# the start.
gc.set_threshold(200_000, 50, 100)
plan.announce(STUDY)
progress_table.watch(workflow)
ROOT = Path(workflow.basedir).parent if Path(workflow.basedir).name == "workflow" else Path(workflow.basedir)
# Filled in when a job starts: Snakemake remembers a command without them, so that a moved checkout reruns nothing.
shell.prefix(f"PYTHON={shlex.quote(sys.executable)}; SCRIPTS={shlex.quote(str(ROOT / 'workflow/scripts'))}; ")
SELECT = STUDY["select"]
RESULTS = f"results/{STUDY['study']}"
BASE = f"{RESULTS}/{{model}}"
LOGS = f"logs/{STUDY['study']}"
SCRATCH = f"scratch/{STUDY['study']}"
DATASETS = STUDY["datasets_root"] or os.environ.get("COLOCATE_DATASETS", "")  # a mirror, or nothing: then fetched
SAME = configuration.same_arms(STUDY)
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
    "power.csv",
    "claims.csv",
    "recommendation.json",
    "findings.json",
]
# Relative to the checkout where the package lies in it, so that a moved one writes no new report.
PACKAGE = Path(os.path.relpath(Path(configuration.__file__).parent))
TEMPLATE = str((PACKAGE.resolve() if PACKAGE.parts[0] == ".." else PACKAGE) / "templates/report.html.j2")
# A job of a model takes one GPU where models run on one. `auto` asks this machine; a cluster's profile says `cuda`.
CUDA = STUDY["device"] == "cuda" or (STUDY["device"] == "auto" and bool(devices.list_gpus()))
GPU = int(CUDA) if STUDY["gpus"] == "auto" else STUDY["gpus"]


onstart:
    if workflow.executor_plugin.name == "slurm":
        cluster.check_run(workflow)


wildcard_constraints:
    model="|".join(map(re.escape, STUDY["models"])),
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
    fixed = ["--threads {threads}", "--log {log:q}", f"--label '{label}'", "--settings {params.cfg:q}"]
    return " ".join([f'"$PYTHON" "$SCRIPTS"/{script}.py', *named, *fixed])


def code(script: str, *modules: str) -> str:
    return digests.code(ROOT / "workflow/scripts" / f"{script}.py", modules)


def env(script: str, *modules: str) -> str:
    return digests.environment(ROOT / "workflow/scripts" / f"{script}.py", modules)
