"""What a run will take before it starts: jobs, seconds and price, roughly.

Seconds of one job of a rule: the mean over earlier runs of the study, out of Snakemake's benchmark tables
(`logs/{study}/{rule}/**/*.tsv`, column `s`), or, for a rule that never ran,

    seconds = start + passes * parameters * SECONDS[device] / threads

with `passes` = the job's tokens, each counted in forward passes (a token that is trained on costs 3, a generated one
about 6), and `parameters` of the model, from the geometry in the config. Wall time of n jobs of s seconds on
k slots, rule after rule: s * max(n / k, 1). Estimates are good to a factor of about two; queues are not in them.

Only light imports: the logger asks at every start.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

from colocate import devices, models
from colocate.profiles import METRICS

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
    "profile_arm",
    "profile_released",
    "correlate_profiles",
    "resample_items",
    "score_metrics",
    "contrast_arms",
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
# Rules that run a model: they take a GPU where there is one.
MODEL_RULES = (
    *("make_pairs", "profile_layers", "profile_twin", "gain_layer", "tune_arm", "train_arm", "evaluate_arm"),
    *("profile_arm", "profile_released"),
)
# Seconds of one forward pass, per token and parameter, one thread. CPU: SmolLM2-135M on a server core, batch 16, head
# included (3.4 ms a token in float32, 1.0 ms in bfloat16). cuda: half of what one H200 can reach with 8B parameters.
SECONDS = {"float32": 2.5e-11, "bfloat16": 7.4e-12, "cuda": 4.8e-15}
START = {"cpu": 10.0, "cuda": 40.0}  # imports, loading the model, compiling kernels
LIGHT = 2.0  # a job without a model
DOWNLOAD_BYTES_PER_SECOND = 2e7
# Typical sizes where the config does not say: tokens of a text, of a training example, passes of a benchmark item.
TEXT_TOKENS, EXAMPLE_TOKENS, ITEM_PASSES = 30, 120, 500
ANSWER_PASSES = 400  # of one pair out of a model's own answers: several answers to each question
EXAMPLES = 64  # training examples of a profile that leaves their number to the metric
TEXTS = 8  # windows of a RoPE profile that leaves their number to the method
PAIR_TEXTS = 5  # texts per pair: correct, two incorrect, controls
ITEMS = {"builtin": 50, "hub": 1000}
BACKWARD, SUFFIX = 3.0, 0.6  # a training step; the share of layers above the perturbed one, head included


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
        hour = {rule: prices["gpu_hour"] if self.cuda and rule in MODEL_RULES else 0.0 for rule in self.jobs}
        return sum(
            n * self.seconds[rule] / 3600 * (hour[rule] + threads * prices["cpu_hour"]) for rule, n in self.jobs.items()
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
    values = []
    for path in [*folder.rglob("*.tsv"), *folder.parent.glob(f"{folder.name}.tsv")]:
        with path.open(encoding="utf-8", newline="") as file:
            values += [
                float(row["s"]) for row in csv.DictReader(file, delimiter="\t") if row.get("s", "-") not in ("-", "NA")
            ]
    return sum(values) / len(values) if values else None


def device_of(config: dict) -> str:
    """What models will run on: cuda, or the float type of this CPU. `auto` asks this machine."""
    if config["device"] == "cuda" or (config["device"] == "auto" and devices.list_gpus()):
        return "cuda"
    return models.resolve_dtype("auto", "cpu", "bfloat16")


def parameters(geometry: dict) -> int:
    """Number of a model's parameters: attention, gated feed-forward and embedding (tied), norms left out."""
    g = geometry
    attention = 2 * (g["n_heads"] + g["n_kv_heads"]) * g["head_dim"] * g["hidden"]
    return g["n_layers"] * (attention + 3 * g["hidden"] * g["ffn"]) + g["vocab"] * g["hidden"]


def modelled_seconds(rule: str, config: dict, device: str) -> float:
    """Seconds of one job of a rule, from the config alone: the mean over the selected models."""
    entries = [config["models"][name] for name in config["select"]["models"]]
    if rule in MODEL_RULES:
        kind = "cuda" if device == "cuda" else "cpu"
        speed = SECONDS[device] / (1 if device == "cuda" else config["threads"])
        each = [
            START[kind] + passes(rule, config, model, device) * parameters(model["geometry"]) * speed
            for model in entries
        ]
    elif rule in ("fetch_model", "prepare_model"):
        each = [LIGHT + 2 * parameters(model["geometry"]) / DOWNLOAD_BYTES_PER_SECOND for model in entries]
    else:
        each = [LIGHT]
    return sum(each) / len(each)


def passes(rule: str, config: dict, model: dict, device: str) -> float:
    """Forward passes over one token that one job of a model rule costs, the mean over its profiles or benchmarks."""
    if rule in ("train_arm", "gain_layer", "tune_arm"):
        return training_passes(rule, config)
    if rule == "evaluate_arm":
        tasks = [config["benchmarks"][name] for name in config["select"]["benchmarks"]]
        return sum(items_of(task) for task in tasks) / len(tasks) * ITEM_PASSES
    if rule == "make_pairs":
        kinds = {"benchmark": 0, "own_answers": ANSWER_PASSES}  # only a model's own answers have to be generated
        return sum(made["n"] * kinds[made["kind"]] for made in config["pairs"]["made"])
    if rule in ("profile_arm", "profile_released"):
        return 2 * pairs_of(config) * PAIR_TEXTS * TEXT_TOKENS
    chosen = config["statistics"]
    primary = [chosen["primary_sensitivity"], chosen["primary_rope"]]
    names = primary if rule == "profile_twin" else config["select"]["profiles"]
    return sum(profile_passes(config, config["profiles"][name], model, device) for name in names) / len(names)


def training_passes(rule: str, config: dict) -> float:
    """Training tokens of one job, and those of its held-out losses: before and after, and of an arm also on test."""
    training = config["training"]
    tokens = {"train_arm": training, "gain_layer": config["gain"], "tune_arm": training["tuning"]}[rule]["max_tokens"]
    splits = 2 if rule == "train_arm" else 1
    return BACKWARD * tokens + 2 * splits * training["heldout_examples"] * EXAMPLE_TOKENS


def profile_passes(config: dict, profile: dict, model: dict, device: str) -> float:
    """Passes of one profile of the base model: of its pairs, of windows of text, or of training examples."""
    n_layers, needs = model["geometry"]["n_layers"], METRICS[profile["metric"]].needs
    if needs == "examples":
        return profile.get("max_examples", EXAMPLES) * EXAMPLE_TOKENS * BACKWARD
    if needs == "pairs":
        times = SUFFIX * n_layers if profile["metric"] == "patching" else 1.0  # a run from every layer to the end
        return pairs_of(config) * PAIR_TEXTS * TEXT_TOKENS * times
    # Every layer with both signs, from there to the end; `local` stays within the layer.
    reruns = 2.0 if profile.get("method") == "local" else 2 * SUFFIX * n_layers
    exact = SECONDS["float32"] / SECONDS[device] if device == "bfloat16" else 1.0  # RoPE profiles are always float32
    return (profile.get("max_texts") or TEXTS) * profile.get("text_tokens", 128) * (1 + reruns) * exact


def pairs_of(config: dict) -> int:
    """Number of pairs that the config selects; files that are not there count as none."""
    limit = config["pairs"].get("limit", 100_000)
    return sum(min(limit, _lines(Path(path))) for path in config["pairs"].get("files", []))


def items_of(task: dict) -> int:
    """Number of items of a benchmark entry: its limit, its rows in data/benchmarks, or a typical number."""
    source = "builtin" if task.get("source", "builtin") == "builtin" else "hub"
    rows = sum(_lines(path) for path in (Path("data/benchmarks") / task["task"]).rglob("test.jsonl"))
    items = rows if source == "builtin" and rows else ITEMS[source]
    return min(items, task.get("limit", items))


def _lines(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return sum(1 for line in file if line.strip())
    except OSError:
        return 0
