"""What a run will take before it starts: jobs, seconds and price, roughly.

Seconds of one job of a rule: the mean over earlier runs of the study, out of Snakemake's benchmark tables
(`logs/{study}/{rule}/**/*.tsv`, column `s`), or, for a rule that never ran,

    seconds = start + passes * parameters * rate / threads

with `passes` = the job's tokens, each counted in forward passes (a token that is trained on costs 3, a written one
about 6; colocate.work), `parameters` of the model, from the geometry in the config, and `rate` and `start` of a machine
(data/rates.yaml). Wall time of n jobs of s seconds on k slots, rule after rule: s * max(n / k, 1). Estimates are good
to a factor of about two; queues are not in them.

Only light imports: the logger asks at every start.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

from colocate import devices, models, rates, work
from colocate.prices import hourly

# In the order of the data; decides how a plan is listed.
RULES = (
    "fetch_model",
    "fetch_benchmark",
    "fetch_mixture",
    "prepare_model",
    "describe_model",
    "check_pairs",
    "check_contamination",
    "check_tokens",
    "make_pairs",
    "profile_layers",
    "profile_twin",
    "gain_layer",
    "join_layer_gain",
    "select_layers",
    "tune_arm",
    "resolve_arm",
    "train_arm",
    "evaluate_arm",
    "measure_drift",
    "profile_arm",
    "profile_released",
    "correlate_profiles",
    "resample_items",
    "score_metrics",
    "contrast_arms",
    "compare_base",
    "judge_claims",
    "recommend_layers",
    "record_config",
    "compare_models",
    "reanalyse_print",
    "collect_compute",
    "draw_figure",
    "write_report",
    "describe_run",
)
# Stages, in the order of the data, and their rules; what is not named here is statistics.
STAGES = {
    "models": ("fetch_model", "prepare_model", "describe_model"),
    "data": (
        *("fetch_benchmark", "fetch_mixture", "check_pairs", "check_contamination", "check_tokens", "make_pairs"),
    ),
    "profiles": ("profile_layers", "profile_twin", "gain_layer", "join_layer_gain"),
    "arms": ("select_layers", "tune_arm", "resolve_arm"),
    "train": ("train_arm",),
    "evaluate": ("evaluate_arm",),
    "arm profiles": ("profile_arm", "profile_released"),
}
STAGE_OF = {rule: stage for stage, rules in STAGES.items() for rule in rules}
# Rules that run a model: they take a GPU where there is one.
MODEL_RULES = (
    *("make_pairs", "profile_layers", "profile_twin", "gain_layer", "tune_arm", "train_arm", "evaluate_arm"),
    *("measure_drift", "profile_arm", "profile_released"),
)


@dataclass(frozen=True)
class Plan:
    """jobs: {rule: n}; seconds: {rule: of one job}; measured: rules known from earlier runs; cuda: models on GPUs."""

    jobs: dict[str, int]
    seconds: dict[str, float]
    measured: frozenset[str]
    cuda: bool

    def wall(self, cores: float, gpus: float | None = None) -> float:
        """Seconds until all jobs are done on that many slots (`gpus`: those of model rules, if they need a GPU)."""
        return wall_seconds(self.jobs, self.seconds, self.slots(cores, gpus))

    def slots(self, cores: float, gpus: float | None = None) -> dict[str, float]:
        """{rule: jobs at a time}."""
        on_gpu = gpus if self.cuda and gpus else cores
        return {rule: on_gpu if rule in MODEL_RULES else cores for rule in self.jobs}

    def price(self, prices: dict, threads: int = 1) -> float:
        """Price of all jobs; prices: {gpu_hour, cpu_hour}."""
        return sum(
            n * self.seconds[rule] / 3600 * hourly(prices, self.cuda and rule in MODEL_RULES, threads)
            for rule, n in self.jobs.items()
        )


_announced: dict = {}


def announce(config: dict) -> None:
    """Tell the logger which study is run: the workflow calls this when it is parsed, in the same process."""
    _announced.clear()
    _announced.update(config)


def announced() -> dict:
    """The merged config that `announce` was given, or {}."""
    return _announced


def estimate(jobs: dict[str, int], config: dict, logs: Path = Path("logs")) -> Plan:
    """Plan of `jobs` ({rule: n}, targets left out) for a study's merged config; `logs`: the folder of earlier runs."""
    device = device_of(config)
    found = {rule: measured_seconds(logs / config["study"] / rule) for rule in jobs}
    measured = {rule: seconds for rule, seconds in found.items() if seconds is not None}
    seconds = {rule: measured[rule] if rule in measured else modelled_seconds(rule, config, device) for rule in jobs}
    return Plan(ordered(jobs), seconds, frozenset(measured), device == "cuda")


def ordered(jobs: dict[str, int]) -> dict[str, int]:
    """The same jobs in the order of the data; rules that this module does not know come last."""
    place = {rule: i for i, rule in enumerate(RULES)}
    return dict(sorted(jobs.items(), key=lambda item: place.get(item[0], len(RULES))))


def wall_seconds(jobs: dict[str, float], seconds: dict[str, float], slots: dict[str, float]) -> float:
    """Seconds for n jobs a rule, one rule after the other: a rule takes at least as long as one of its jobs."""
    return sum(seconds[rule] * max(n / max(slots[rule], 1), min(n, 1)) for rule, n in jobs.items())


def measured_seconds(folder: Path) -> float | None:
    """Mean of column `s` over a rule's benchmark tables, FOLDER.tsv and all below FOLDER; None if there are none."""
    paths = [*folder.rglob("*.tsv"), *folder.parent.glob(f"{folder.name}.tsv")]
    values = [seconds for path in paths for seconds in table_seconds(path)]
    return sum(values) / len(values) if values else None


def table_seconds(path: Path) -> list[float]:
    """Column `s` of a benchmark table; a job that was too short to be measured has none."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return [float(row["s"]) for row in rows if row.get("s", "-") not in ("-", "NA")]


def device_of(config: dict) -> str:
    """What models will run on: cuda, or the float type of this CPU. `auto` asks this machine."""
    if config["device"] == "cuda" or (config["device"] == "auto" and devices.list_gpus()):
        return "cuda"
    return models.resolve_dtype("auto", "cpu", "bfloat16")


def parameters(geometry: dict) -> int:
    """Number of a model's parameters: attention, gated feed-forward, two norms a layer, embedding (tied)."""
    g = geometry
    attention = 2 * (g["n_heads"] + g["n_kv_heads"]) * g["head_dim"] * g["hidden"]
    layer = attention + 3 * g["hidden"] * g["ffn"] + 2 * g["hidden"]
    return g["n_layers"] * layer + g["hidden"] + g["vocab"] * g["hidden"]


def modelled_seconds(rule: str, config: dict, device: str, job: dict | None = None) -> float:
    """Seconds of one job of a rule, from config and rates alone; `device`: cuda, or the float type of a CPU.

    `job`: wildcards; what they leave open is the mean over the selection.
    """
    chosen = rates.read(config)
    names = [job["model"]] if job and job.get("model") in config["models"] else config["select"]["models"]
    entries = [config["models"][name] for name in names]
    if rule in MODEL_RULES:
        each = [_model_seconds(rule, config, model, device, job) for model in entries]
    elif rule in ("fetch_model", "prepare_model"):
        each = [chosen.light + 2 * parameters(model["geometry"]) / chosen.download for model in entries]
    else:
        each = [chosen.light]
    return sum(each) / len(each)


def _model_seconds(rule: str, config: dict, model: dict, device: str, job: dict | None) -> float:
    machine = machine_of(config, device)
    dtype = precision(model, device)
    threads = 1 if device == "cuda" else config["threads"]
    todo = work.of_job(rule, config, model, job)
    seconds = [
        part.all_passes(machine.written) * machine.passes["float32" if part.exact else dtype] / threads for part in todo
    ]
    return machine.start + parameters(model["geometry"]) * sum(seconds) / len(seconds)


def machine_of(config: dict, device: str) -> rates.Machine:
    """The rates of cuda, or of a CPU whose float type is `device`."""
    return rates.read(config).machines["cuda" if device == "cuda" else "cpu"]


def precision(model: dict, device: str) -> str:
    """The dtype that a model's entry will run in on cuda, or on a CPU whose float type is `device`."""
    chosen = model.get("dtype", "auto")
    return chosen if chosen != "auto" else "bfloat16" if device == "cuda" else device


def stage_of(rule: str) -> str:
    return STAGE_OF.get(rule, "statistics")


def forecast(config: dict) -> dict[str, dict]:
    """{"expected": {rule: {kind of device: seconds of a job}}, "stages": {rule: stage}}, of rules with run records.

    For every kind of device, since a forecast must not depend on the machine on which the workflow is parsed.
    """
    made = {
        "gain_layer": config["select"]["layer_gain"],
        "tune_arm": config["training"]["tuning"]["lr_lora"] or config["training"]["tuning"]["lr_garfa"],
        "make_pairs": config["pairs"]["made"],
    }
    rules = [rule for rule in MODEL_RULES if made.get(rule, True)]
    rules = ordered(dict.fromkeys([*rules, "prepare_model", "describe_model", "correlate_profiles"], 1))
    kinds = ("cuda", "float32", "bfloat16")
    expected = {rule: {kind: modelled_seconds(rule, config, kind) for kind in kinds} for rule in rules}
    return {"expected": expected, "stages": {rule: stage_of(rule) for rule in rules}}
