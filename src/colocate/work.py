"""What one job of a model has to do, from the config alone: tokens, and forward passes over one token.

A token that is read costs one pass, one that is trained on BACKWARD, one that the model writes `written` (a property of
the machine, colocate.rates). Sizes that the config does not say are those of the published benchmarks and of the
shipped texts. `job`: a job's wildcards; what they leave open (those of a whole rule) is the mean over the selection.
"""

from dataclasses import dataclass
from pathlib import Path

from colocate.profiles import METRICS

# Typical sizes where the config does not say: tokens of a text and of a training example.
TEXT_TOKENS, EXAMPLE_TOKENS = 30, 120
ANSWER_TOKENS = 70  # written for one pair out of a model's own answers: several answers to each question
EXAMPLES = 64  # training examples of a profile that leaves their number to the metric
TEXTS = 8  # windows of a RoPE profile that leaves their number to the method
NEUTRAL_TOKENS = 3000  # of the neutral texts together, each read by the arm and by base
PAIR_TEXTS = 5  # texts per pair: correct, two incorrect, controls
BACKWARD, SUFFIX = 3.0, 0.6  # a training step; the share of layers above the perturbed one, head included
# What lm-eval's task asks: parts (its `limit` counts in each), items in all, tokens read and written for one item.
# Beginnings that items share (few-shot examples) are read once a part and left out. First match of a name counts.
TASKS = {
    "mini_mmlu": (1, 50, 80, 0),
    "mini_gpqa": (1, 50, 80, 0),
    "mini_arc": (1, 50, 80, 0),
    "mini_": (1, 50, 80, 50),
    "mmlu": (57, 14042, 130, 0),
    "gpqa_diamond": (1, 198, 400, 0),
    "gpqa": (1, 448, 400, 0),
    "humaneval": (1, 164, 250, 300),
    "hendrycks_math500": (1, 500, 150, 350),
    "minerva_math500": (1, 500, 150, 350),
    "hendrycks_math": (7, 5000, 150, 350),
    "minerva_math": (7, 5000, 150, 350),
    "mgsm_direct": (11, 2750, 120, 16),
    "mgsm": (11, 2750, 120, 150),
    "arc_challenge": (1, 1172, 60, 0),
    "arc_easy": (1, 2376, 60, 0),
    "gsm8k": (1, 1319, 120, 130),
    "ifeval": (1, 541, 60, 500),
}
OTHER = (1, 1000, 150, 100)


@dataclass(frozen=True)
class Work:
    """Tokens that go through a model: read, trained on, and written; `passes` for the reading and training."""

    tokens: float
    passes: float
    written: float = 0.0
    exact: bool = False  # always float32, whatever the model's dtype

    def all_passes(self, written: float) -> float:
        """Forward passes over one token, if a written token costs `written` of them."""
        return self.passes + self.written * written


def of_job(rule: str, config: dict, model: dict, job: dict | None = None) -> list[Work]:
    """The work of one job of a model rule: the mean over what `job` (wildcards) leaves open is the mean of the list.

    `model`: the model's entry of the config.
    """
    job = job or {}
    if rule in ("train_arm", "gain_layer", "tune_arm"):
        return [_training(rule, config)]
    if rule == "evaluate_arm":
        names = [job["benchmark"]] if "benchmark" in job else config["select"]["benchmarks"]
        return [evaluation(config["benchmarks"][name]) for name in names]
    if rule == "make_pairs":
        made = sum(made["n"] for made in config["pairs"]["made"] if made["kind"] == "own_answers")
        return [Work(made * ANSWER_TOKENS, 0.0, made * ANSWER_TOKENS)]
    if rule == "measure_drift":
        return [Work(2 * NEUTRAL_TOKENS, 2 * NEUTRAL_TOKENS)]
    if rule in ("profile_arm", "profile_released"):
        texts = pairs_of(config) * TEXT_TOKENS  # the right ones, through both models; weights take no pass
        names = [job["metric"]] if "metric" in job else config["select"]["arm_profiles"] or ["linear_cka"]
        passes = [0 if name == "weight_change" else 2 * texts for name in names]
        return [Work(tokens, tokens) for tokens in passes]
    chosen = config["statistics"]
    primary = [chosen["primary_sensitivity"], chosen["primary_rope"]]
    names = primary if rule == "profile_twin" else config["select"]["profiles"]
    names = [job["profile"]] if "profile" in job else names
    return [profile(config, config["profiles"][name], model["geometry"]["n_layers"]) for name in names]


def _training(rule: str, config: dict) -> Work:
    """Training tokens of one job, and those of its held-out losses: before and after, and of an arm also on test."""
    tokens = training_tokens(rule, config)
    heldout = 2 * (2 if rule == "train_arm" else 1) * config["training"]["heldout_examples"] * EXAMPLE_TOKENS
    return Work(tokens + heldout, BACKWARD * tokens + heldout)


def training_tokens(rule: str, config: dict) -> int:
    """Tokens that a job of a training rule trains on, all epochs together."""
    training = config["training"]
    return {"train_arm": training, "gain_layer": config["gain"], "tune_arm": training["tuning"]}[rule]["max_tokens"]


def profile(config: dict, entry: dict, n_layers: int) -> Work:
    """One profile of the base model: of its pairs, of windows of text, or of training examples."""
    needs = METRICS[entry["metric"]].needs
    if needs == "examples":
        tokens = entry.get("max_examples", EXAMPLES) * EXAMPLE_TOKENS
        return Work(tokens, tokens * BACKWARD)
    if needs == "pairs":
        tokens = pairs_of(config) * PAIR_TEXTS * TEXT_TOKENS
        return Work(tokens, tokens * (SUFFIX * n_layers if entry["metric"] == "patching" else 1.0))
    # Every layer with both signs, from there to the end; `local` stays within the layer.
    reruns = 2.0 if entry.get("method") == "local" else 2 * SUFFIX * n_layers
    tokens = (entry.get("max_texts") or TEXTS) * entry.get("text_tokens", 128)
    return Work(tokens, tokens * (1 + reruns), exact=True)


def evaluation(task: dict) -> Work:
    """One arm on one benchmark entry. Few-shot examples are read once a part, and cost little beside the items."""
    _, _, read, written = sizes(task)
    written = min(written, task.get("max_new_tokens", written))
    items = items_of(task)
    return Work(items * (read + written), items * read, items * written)


def sizes(task: dict) -> tuple[int, int, int, int]:
    """(parts, items, tokens read an item, tokens written an item) of a benchmark entry's task, as TASKS knows it."""
    return next((size for name, size in TASKS.items() if task["task"].startswith(name)), OTHER)


def items_of(task: dict) -> int:
    """Number of items of a benchmark entry: its rows in data/benchmarks or the task's, cut by `limit` and `subset`."""
    parts, items, _, _ = sizes(task)
    rows = sum(_lines(path) for path in (Path("data/benchmarks") / task["task"]).rglob("test.jsonl"))
    items = rows or items
    if "subset" in task and parts > 1:
        chosen = parts if any("*" in part for part in task["subset"]) else len(task["subset"])
        items, parts = items * chosen // parts, chosen
    return min(items, task.get("limit", items) * parts)


def pairs_of(config: dict) -> int:
    """Number of pairs that the config selects; files that are not there count as none."""
    limit = config["pairs"].get("limit", 100_000)
    return sum(min(limit, _lines(Path(path))) for path in config["pairs"].get("files", []))


def _lines(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return sum(1 for line in file if line.strip())
    except OSError:
        return 0
