"""What all rules share: the checked config, paths, the closed lists of wildcards, and the three digests of each rule."""

import json
import re
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from colocate import config as configuration
from colocate import devices, digests, plan
from colocate.errors import InputError
from colocate.figures import FIGURES

try:
    STUDY = configuration.complete(config)
except InputError as error:
    raise WorkflowError(str(error)) from None

plan.announce(STUDY)
ROOT = Path(workflow.basedir).parent if Path(workflow.basedir).name == "workflow" else Path(workflow.basedir)
# Filled in when a job starts: Snakemake remembers a command without them, so that a moved checkout reruns nothing.
shell.prefix(f"PYTHON={shlex.quote(sys.executable)}; SCRIPTS={shlex.quote(str(ROOT / 'workflow/scripts'))}; ")
SELECT = STUDY["select"]
RESULTS = f"results/{STUDY['study']}"
BASE = f"{RESULTS}/{{model}}"
LOGS = f"logs/{STUDY['study']}"
SCRATCH = f"scratch/{STUDY['study']}"
SAME = configuration.same_arms(STUDY)
ARMS = sorted(set(SAME.values()), key=list(SAME).index)
SEEDS = STUDY["seeds"]
THREADS = STUDY["threads"]
STATISTICS = [
    "correlations.csv",
    "specifications.csv",
    "contrasts.csv",
    "power.csv",
    "claims.csv",
    "recommendation.json",
    "findings.json",
]
TEMPLATE = str(Path(configuration.__file__).parent / "templates/report.html.j2")
# Which of a profile's settings each metric reads: the others must not rerun it.
METRIC_SETTINGS = {
    "sensitivity": ("pool", "form", "contrast", "batch_tokens"),
    "rope_influence": ("method", "log_alpha", "text_tokens", "max_texts", "batch_tokens"),
}
# A job of a model takes one GPU where models run on one. `auto` asks this machine; a cluster's profile says `cuda`.
GPU = int(STUDY["device"] == "cuda" or (STUDY["device"] == "auto" and bool(devices.list_gpus())))


wildcard_constraints:
    model="|".join(map(re.escape, STUDY["models"])),
    profile="|".join(map(re.escape, STUDY["profiles"])),
    layer_set="|".join(map(re.escape, STUDY["layer_sets"])),
    arm="|".join(map(re.escape, STUDY["arms"])),
    benchmark="|".join(map(re.escape, STUDY["benchmarks"])),
    seed=r"\d+",
    layer=r"\d+",
    metric="linear_cka|weight_change",
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


def arms_of(model: str) -> list[str]:
    """Selected arms that this model takes part in."""
    return [arm for arm in ARMS if model in STUDY["arms"][arm].get("models", [model])]


def runs(model: str, trained_only: bool = False) -> list[tuple[str, int]]:
    """(arm, seed) of every run of a model. base is never trained, and counts once, as seed 0."""
    trained = [(arm, seed) for arm in arms_of(model) if arm != "base" for seed in SEEDS]
    return trained if trained_only else [("base", 0), *trained]


def evaluated(model: str) -> list[tuple[str, int, str]]:
    return [
        (arm, seed, benchmark)
        for arm, seed in runs(model)
        if STUDY["arms"][arm].get("measure") != "heldout"
        for benchmark in SELECT["benchmarks"]
    ]


def selected_sets(model: str) -> list[str]:
    """Layer sets with a file of their own that the model's arms need: all but those that are drawn."""
    names = {name for arm in arms_of(model) for name in configuration.arm_sets(STUDY, arm)}
    return sorted(name for name in names if "random" not in STUDY["layer_sets"][name])


def dataset_ids() -> list[str]:
    """Hub ids of the data sets of the selected benchmarks that are not built in."""
    sources = {STUDY["benchmarks"][name]["source"] for name in SELECT["benchmarks"]}
    return sorted(sources - {"builtin"})


def gain_layers(model: str) -> list[int]:
    return list(range(STUDY["models"][model]["geometry"]["n_layers"])) if SELECT["layer_gain"] else []


def profile_module(profile: str) -> str:
    """The module behind a profile's metric: what its code digest covers."""
    return f"colocate.profiles.{STUDY['profiles'][profile]['metric']}"


def model_folder(wildcards) -> str:
    return f"resources/models/{wildcards.model}/manifest.json"


def mixture(split: str) -> str:
    return f"{RESULTS}/mixture/{split}.jsonl"


def benchmark_data(wildcards) -> list[str]:
    """What an evaluation reads: the built-in task's files, or the manifest of the downloaded data set."""
    entry = STUDY["benchmarks"][wildcards.benchmark]
    if entry["source"] != "builtin":
        return [f"resources/datasets/{entry['source']}/manifest.json"]
    folder = Path("data/benchmarks") / entry["task"]
    return sorted(str(path) for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")


def per_model(*patterns: str) -> list[str]:
    return [pattern.format(model=model) for model in SELECT["models"] for pattern in patterns]


def adapters_of(model: str, name: str) -> list[str]:
    return [f"{RESULTS}/{model}/adapters/{arm}/seed{seed}/{name}" for arm, seed in runs(model, trained_only=True)]


def evaluations_of(model: str, ending: str) -> list[str]:
    return [f"{RESULTS}/{model}/evaluations/{arm}/seed{seed}/{name}{ending}" for arm, seed, name in evaluated(model)]


def profiles_of(model: str, ending: str = ".csv") -> list[str]:
    gain = [f"{RESULTS}/{model}/profiles/layer_gain.csv"] if SELECT["layer_gain"] and ending == ".csv" else []
    return [f"{RESULTS}/{model}/profiles/{profile}{ending}" for profile in SELECT["profiles"]] + gain


def arm_profiles_of(model: str) -> list[str]:
    return [
        f"{RESULTS}/{model}/arm_profiles/{arm}/seed{seed}/{metric}.csv"
        for arm, seed in runs(model, trained_only=True)
        for metric in SELECT["arm_profiles"]
    ]


def run_records() -> list[str]:
    """The run record of every job that measures, trains or evaluates."""
    records = []
    for model in SELECT["models"]:
        base = f"{RESULTS}/{model}"
        records += [f"resources/models/{model}.run.json", f"{base}/geometry.run.json"]
        records += [f"{base}/profiles/{profile}.run.json" for profile in SELECT["profiles"]]
        records += [
            f"{base}/layer_gain/layer{layer}/seed{seed}.run.json" for layer in gain_layers(model) for seed in SEEDS
        ]
        records += adapters_of(model, "train.run.json")
        records += [path.removesuffix(".csv") + ".run.json" for path in arm_profiles_of(model)]
        records += evaluations_of(model, ".run.json")
        records += [f"{base}/statistics/correlations.run.json"]
    return records


def targets(*stages: str) -> list[str]:
    """Files that the target rules ask for. Adapters and evaluations are named, so that a deleted one is noticed."""
    files = []
    for model in SELECT["models"]:
        base = f"{RESULTS}/{model}"
        stage_files = {
            "fetch": [f"resources/downloads/{model}/download.json"],
            "profiles": profiles_of(model),
            "train": adapters_of(model, "manifest.json") + adapters_of(model, "adapter_model.safetensors"),
            "evaluate": evaluations_of(model, ".json") + evaluations_of(model, ".items.parquet"),
            "statistics": [f"{base}/statistics/{name}" for name in STATISTICS] + arm_profiles_of(model),
            "figures": [f"{base}/figures/{figure}.svg" for figure in FIGURES],
            "report": [],
        }
        files += [file for stage in stages for file in stage_files[stage]]
    study_files = {
        "fetch": [f"resources/datasets/{name}/manifest.json" for name in dataset_ids()] + [mixture("train")],
        "statistics": [f"{RESULTS}/{name}" for name in ("compute.csv", "across_models.csv", "config.yaml")],
        "report": [f"reports/{STUDY['study']}.html"],
    }
    return files + [file for stage in stages for file in study_files.get(stage, [])]


def mixture_files() -> list[str]:
    """Files that the training mixture is made from."""
    files = []
    for source in STUDY["mixture"]["sources"]:
        builtin = source["kind"] == "builtin"
        files += sorted(map(str, Path("data/instructions").glob("*.jsonl"))) if builtin else [source["path"]]
    return files


def reference_files() -> list[str]:
    """What training data must not contain: the pairs and every built-in benchmark's items."""
    builtin = [
        STUDY["benchmarks"][name] for name in SELECT["benchmarks"] if STUDY["benchmarks"][name]["source"] == "builtin"
    ]
    items = {str(path) for entry in builtin for path in (Path("data/benchmarks") / entry["task"]).rglob("*.jsonl")}
    return [*STUDY["pairs"]["files"], STUDY["pairs"]["paraphrases"], *sorted(items)]


def where_settings() -> dict:
    """Where a model runs: both change the last digits."""
    return {"device": STUDY["device"], "threads": THREADS}


def profile_settings(wildcards) -> dict:
    entry = STUDY["profiles"][wildcards.profile]
    keys = ("metric", *METRIC_SETTINGS[entry["metric"]])
    chosen = {key: entry[key] for key in keys if key in entry} | {"seed": STUDY["statistics"]["seed"]}
    return {"profile": chosen, "limit": STUDY["pairs"]["limit"]} | where_settings()


def training_settings(wildcards) -> dict:
    template = STUDY["models"][wildcards.model]["chat_template"]
    return {"training": STUDY["training"], "chat_template": template} | where_settings()


def arm_settings(wildcards) -> dict:
    """An arm's entry, that of the arm whose budget it matches, the rules of their layer sets, and training's defaults."""
    entry = STUDY["arms"][wildcards.arm]
    matched = STUDY["arms"][entry["budget"].removeprefix("match ")] if "budget" in entry else None
    names = configuration.arm_sets(STUDY, wildcards.arm)
    return {
        "arm": wildcards.arm,
        "seed": int(wildcards.seed),
        "entry": entry,
        "matched": matched,
        "rules": {name: STUDY["layer_sets"][name] for name in names},
        "training": {key: STUDY["training"][key] for key in ("lora", "lr_lora", "lr_garfa")},
    }


def arm_profile_settings(wildcards) -> dict:
    chosen = {"metric": wildcards.metric, "seed": STUDY["statistics"]["seed"]}
    return {"profile": chosen, "limit": STUDY["pairs"]["limit"]} | where_settings()


def evaluation_settings(wildcards) -> dict:
    template = STUDY["models"][wildcards.model]["chat_template"]
    return {
        "benchmark": wildcards.benchmark,
        "task": STUDY["benchmarks"][wildcards.benchmark],
        "evaluation": STUDY["evaluation"] | {"chat_template": template},
    } | where_settings()


def set_profile(wildcards, ending: str) -> list[str]:
    """The profile that a layer set is made from, if it is made from one; layer gain has no variants."""
    by = STUDY["layer_sets"][wildcards.layer_set].get("by")
    if by is None or (by == "layer_gain" and ending != ".csv"):
        return []
    return [f"{RESULTS}/{wildcards.model}/profiles/{by}{ending}"]


def set_parts(layer_set: str) -> list[str]:
    entry = STUDY["layer_sets"][layer_set]
    return entry.get("union", []) + entry.get("minus", [])


def model_memory(wildcards, training: bool = False) -> int:
    """MiB that a job of this model needs: float32 weights (profiles use them whatever dtype says), work space, libraries."""
    shape = STUDY["models"][wildcards.model]["geometry"]
    attention = shape["hidden"] * shape["head_dim"] * 2 * (shape["n_heads"] + shape["n_kv_heads"])
    weights = shape["n_layers"] * (attention + 3 * shape["hidden"] * shape["ffn"]) + shape["vocab"] * shape["hidden"]
    return int(1500 + (6 if training else 5) * weights / 2**20)


def metrics_by_profile() -> dict[str, str]:
    return {profile: STUDY["profiles"][profile]["metric"] for profile in SELECT["profiles"]}


def correlation_settings() -> dict:
    keys = ("primary_sensitivity", "primary_rope", "surrogates", "seed")
    return {key: STUDY["statistics"][key] for key in keys} | {"metrics": metrics_by_profile()}


def random_arms(model: str) -> list[str]:
    """Arms whose layers are drawn anew for every seed."""
    drawn = {name for name, entry in STUDY["layer_sets"].items() if "random" in entry}
    return [arm for arm in arms_of(model) if drawn & set(configuration.arm_sets(STUDY, arm))]


def contrast_settings(wildcards) -> dict:
    chosen = {key: STUDY["statistics"][key] for key in ("reference", "primary_against")}
    against = [SAME.get(arm, arm) for arm in chosen["primary_against"]]
    return chosen | {"primary_against": against, "random_arms": random_arms(wildcards.model)}


def top_sets() -> dict[str, str]:
    """Names of S and R: the sets that the reference arm's study takes from the top of the two primary profiles."""
    by = {"sensitive": STUDY["statistics"]["primary_sensitivity"], "positional": STUDY["statistics"]["primary_rope"]}
    tops = {entry["by"]: name for name, entry in reversed(STUDY["layer_sets"].items()) if "top" in entry}
    return {role: tops[profile] for role, profile in by.items() if profile in tops}


def claim_settings(wildcards) -> dict:
    """The study's scope, so that a claim made elsewhere is only judged conceptually, and the names it is judged by."""
    scope = {
        "model": f"{wildcards.model} {STUDY['models'][wildcards.model]['source']}",
        "mixture": [source.get("path", source["kind"]) for source in STUDY["mixture"]["sources"]],
        "benchmarks": SELECT["benchmarks"],
    }
    chosen = {key: STUDY["statistics"][key] for key in ("reference", "seed")}
    return chosen | {"scope": scope, "sets": top_sets()}


def result_files(model: str) -> dict[str, list[str]]:
    """Files of each kind of results (keys of colocate.results.LAYOUT) that this study has of a model."""
    base = f"{RESULTS}/{model}"
    kinds = {
        "geometry": [f"{base}/geometry.json"],
        "profiles": profiles_of(model),
        "variants": profiles_of(model, ".variants.parquet"),
        "layer_sets": [f"{base}/layer_sets/{name}.json" for name in selected_sets(model)],
        "arms": [f"{base}/arms/{arm}/seed{seed}.json" for arm, seed in runs(model, trained_only=True)],
        "alphas": adapters_of(model, "alphas.csv"),
        "training_logs": adapters_of(model, "training_log.csv"),
        "evaluations": evaluations_of(model, ".json"),
    }
    return kinds | {name.split(".")[0]: [f"{base}/statistics/{name}"] for name in STATISTICS}


def figure_inputs(wildcards) -> list[str]:
    files = result_files(wildcards.model)
    return [file for need in FIGURES[wildcards.figure].needs for file in files[need]]


def selection(model: str) -> dict:
    """What this study runs on a model, by wildcard: files of an earlier selection stay out of figures and report."""
    return {
        "profile": SELECT["profiles"] + ["layer_gain"] * SELECT["layer_gain"],
        "layer_set": selected_sets(model),
        "arm": arms_of(model),
        "run": [f"{arm}/seed{seed}" for arm, seed in runs(model)],
        "benchmark": SELECT["benchmarks"],
    }


def figure_settings(wildcards) -> dict:
    folder = f"{RESULTS}/{wildcards.model}"
    return {"figure": wildcards.figure, "results": folder, "select": selection(wildcards.model)}


def report_settings() -> dict:
    aliases = {arm: first for arm, first in SAME.items() if arm != first}
    return {
        "study": STUDY["study"],
        "results": RESULTS,
        "models": {model: selection(model) for model in SELECT["models"]},
        "aliases": aliases,
    }
