"""What a job asks for, before anything is loaded: memory of the host and of a card, and time, from the geometry.

Peak memory of a stage, MiB, with P parameters of b bytes, D hidden, F inner size of the feed-forward, V vocabulary,
H + 2 K heads of dimension d, L layers (checked against measured peaks by benchmarks/memory.py):

    host, CPU   the larger of   while loading   LOADING + stored file (mapped) + weights
                                while running   libraries + weights + pooled + work
                weights in the file's own dtype are not copied, and the file is all there is of them
    host, GPU   libraries + CUDA + stored file (mapped; the kernel takes it back where memory is short) + pooled
    card        weights + work
    libraries   LIBRARIES[stage] + 1200 V bytes of tokenizer
    pooled      profiles of pairs: states of the texts of a batch, in 2 forms and 4 pools, 32 L D a text

    work, of   tokens in a forward t, bytes b
    profiles of pairs     t (L D b + 3 F b + 16 D)                             every layer's state is kept
    RoPE on the output    N M V (8 + 8) + N T (4 L D + 24 F)                   N windows, M = T - 16, both signs
    RoPE local            t (8 L D + 12 F)
    training              t l A + t m B + t s V (b + 8) + 16 n + kept prefix; on CPUs 4 t m O b more
                          l layers from the first adapted one on, m with LoRA; s the share of tokens with a label;
                          n trained parameters: value, gradient, two moments (of a full fine-tune every parameter)
         A = 8 D + 8 (H + K) d + 3 F b    kept of a frozen layer: inputs of both norms in float32; q, k, v and output
                          of attention (float32 on CPUs; on cards 4 H d b, since a mask repeats keys and values); gate,
                          its activation, up
         B, O             input features (once where maps share an input; each and a mask with dropout) and output
                          features of a layer's maps with LoRA. Inputs are kept for LoRA alone: a frozen map needs none.
                          O: glibc's heap keeps holes of the freed results of LoRA, which rows of other lengths do not
                          fit into (where each block is given back, they are gone). In bfloat16 oneDNN besides keeps
                          kernels of every row length (KERNELS)
    evaluation            t (2 K d L b + 2 F b + 8 D) + 8 N V + 4 c D V        N positions whose logits are made; on
                          cards t is batch_tokens, on CPUs keys and values count only where answers are written;
                          c float32 copies of the head: of one in another dtype 1, on CPUs 2; on CPUs oneDNN's too

A job asks for its peak and MARGIN more, and for SNAKEMAKE, which runs beside it on a cluster; on attempt k for memory
1.5^(k-1) and time 2^(k-1) times as much; the config's `resources` scales both. Light: no torch.
"""

import math
from dataclasses import dataclass

from colocate import layer_sets, plan, work
from colocate.profiles import METRICS

MIB = 2**20
BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "nf4": 0.56}
# Python, torch, transformers and what a stage imports beside them, its kernels included; unit MiB.
LIBRARIES = {
    "profile": {"float32": 480, "bfloat16": 500},
    "train": {"float32": 550, "bfloat16": 560},
    "evaluate": {"float32": 520, "bfloat16": 540},
}
TIED = 3072  # up to this hidden size most families use the embedding as head; the config does not say
TOKENIZER = 1200  # bytes for each entry of the vocabulary
LOADING = 490  # MiB of the libraries that are there while weights are read
CUDA = 1500  # MiB of the host: libraries and context of CUDA
MARGIN, SNAKEMAKE = 1.15, 400
ATTEMPT = {"memory": 1.5, "time": 2.0}
SAFETY, SHORTEST = 3.0, 30  # time asked for: so many times the estimate, at least so many minutes
CPU_TOKENS, GPU_TOKENS = 256, 4096  # of a forward of profiles
FIRST_POSITION = 16
WINDOWS = {"output": 7, "removal": 12, "fisher": 4, "local": 24}
ANSWER_POSITIONS = 10  # of a row whose logits are made
TRAINING_RULES = ("train_arm", "gain_layer", "tune_arm")
PARTS = ("lora", "garfa", "temperature")
LABELS = {"builtin": 0.25}  # share of a row's tokens that are answers, by kind of mixture
HOLES = 4  # results of LoRA that the heap keeps holes of
# MiB of oneDNN's kernels for products in bfloat16, one of each length of row: its cache (1024 of them) is full after so
# many rows.
KERNELS, ROWS = 850, 24
# MiB and minutes of jobs without a model.
LIGHT = {
    "fetch_model": (2000, 240),
    "fetch_benchmark": (2000, 120),
    "fetch_mixture": (2000, 60),
    "describe_model": (1000, 10),
    "check_contamination": (4000, 30),
    "correlate_profiles": (2000, 120),
    "resample_items": (2000, 60),
    "contrast_arms": (4000, 60),
    "judge_claims": (2000, 30),
    "write_report": (2000, 30),
    "draw_figure": (2000, 10),
}
OTHER = (1000, 10)


@dataclass(frozen=True)
class Memory:
    """Peak of a job: host_mib of the machine, gpu_mib of the card (0 on a CPU)."""

    host_mib: float
    gpu_mib: float


def memory(rule: str, config: dict, job: dict, dtype: str | None = None) -> Memory:
    """Peak of a job of a model rule. `job`: its wildcards, `model` among them; `dtype`: of the weights, if known."""
    entry = config["models"][job["model"]]
    device = "cuda" if config["device"] == "cuda" else plan.device_of(config)
    on_gpu = device == "cuda"
    shape, dtype = entry["geometry"], dtype or plan.precision(entry, device)
    stage = "train" if rule in TRAINING_RULES else "evaluate" if rule in ("evaluate_arm", "make_pairs") else "profile"
    if stage == "profile" and exact(rule, config, job) and dtype != "nf4":  # 4-bit weights stay, activations do not
        dtype = "float32"
    # A full fine-tune replaces the weights: what compares it with base loads both.
    full = _is_full(config, job)
    models = 2 if rule == "profile_released" or (full and stage == "profile") else 1
    converted = entry["source"].startswith("pypi:") or entry["source"].endswith(".gguf")  # from GGUF, to float32
    stored = "float32" if converted else "bfloat16"
    file = models * _weights(shape, stored) / MIB
    weights = models * _weights(shape, dtype) / MIB
    todo = {"train": _training, "evaluate": _evaluation, "profile": _profile}[stage](
        rule, config, job, shape, "bfloat16" if dtype == "nf4" else dtype, on_gpu
    )
    libraries = LIBRARIES[stage]["float32" if dtype == "float32" else "bfloat16"] + TOKENIZER * shape["vocab"] / MIB
    pooled = _pooled(rule, config, job, shape) / MIB if stage == "profile" else 0.0
    if stage == "train" and dtype != "float32" and not on_gpu:
        libraries += KERNELS * min(1.0, work.training_tokens(rule, config) / (ROWS * config["training"]["max_length"]))
    if on_gpu:
        return Memory(libraries + CUDA + file + pooled, weights + todo / MIB)
    if dtype == stored:
        return Memory(libraries + file + pooled + todo / MIB, 0.0)
    return Memory(max(LOADING + file + weights, libraries + weights + pooled + todo / MIB), 0.0)


def _weights(shape: dict, dtype: str) -> float:
    """Bytes of the weights; large models have a head of their own; 4-bit ones keep it and the embedding at 2 bytes."""
    head = shape["vocab"] * shape["hidden"]
    heads = head * (2 if shape["hidden"] > TIED else 1)
    body = plan.parameters(shape) - head
    return body * BYTES[dtype] + heads * (2 if dtype == "nf4" else BYTES[dtype])


def exact(rule: str, config: dict, job: dict) -> bool:
    """Whether a profile's metric is always computed in float32."""
    return any(METRICS[entry["metric"]].dtype == "float32" for entry in _profiles(rule, config, job))


def _profiles(rule: str, config: dict, job: dict) -> list[dict]:
    if rule not in ("profile_layers", "profile_twin"):
        return []
    names = [job["profile"]] if "profile" in job else config["select"]["profiles"]
    return [config["profiles"][name] for name in names]


def _profile(rule: str, config: dict, job: dict, shape: dict, dtype: str, on_gpu: bool) -> float:
    entries = _profiles(rule, config, job) or [{"metric": "linear_cka"}]
    return max(_one_profile(entry, shape, BYTES[dtype], on_gpu) for entry in entries)


def _pooled(rule: str, config: dict, job: dict, shape: dict) -> float:
    """Bytes of the pooled states of a batch of texts, on the host; RoPE profiles have none."""
    entries = [entry for entry in _profiles(rule, config, job) if entry["metric"] != "rope_influence"]
    texts = max((entry.get("batch_tokens", GPU_TOKENS) // work.TEXT_TOKENS for entry in entries), default=0)
    if rule in ("profile_arm", "profile_released"):  # right texts alone, of both models
        texts = 2 * work.pairs_of(config)
    return texts * 32 * shape["n_layers"] * shape["hidden"]


def _one_profile(entry: dict, shape: dict, b: float, on_gpu: bool) -> float:
    n_layers, hidden, ffn, vocab = (shape[key] for key in ("n_layers", "hidden", "ffn", "vocab"))
    batch = entry.get("batch_tokens", GPU_TOKENS)
    if entry["metric"] != "rope_influence":
        tokens = batch if on_gpu else min(batch, CPU_TOKENS)
        return tokens * (n_layers * hidden * b + 3 * ffn * b + 16 * hidden)
    method, length = entry.get("method", "output"), entry.get("text_tokens", 128)
    signs = 1 if method in ("removal", "fisher") else 2
    windows = min(entry.get("max_texts") or WINDOWS[method], max(1, batch // (signs * length)))
    if method == "local":
        return windows * length * (8 * n_layers * hidden + 12 * ffn)
    logits = windows * (length - FIRST_POSITION) * vocab
    return logits * (8 + 4 * signs) + windows * length * (4 * n_layers * hidden + 12 * signs * ffn)


def _training(rule: str, config: dict, job: dict, shape: dict, dtype: str, on_gpu: bool) -> float:
    training, b, full = config["training"], BYTES[dtype], _is_full(config, job)
    hidden, ffn, vocab, n_layers = (shape[key] for key in ("hidden", "ffn", "vocab", "n_layers"))
    query, key = (shape[heads] * shape["head_dim"] for heads in ("n_heads", "n_kv_heads"))
    lora, above = (n_layers, n_layers) if full else adapted(rule, config, job, n_layers)
    entry = training["lora"] | config["arms"].get(job.get("arm"), {})
    maps = {name: size for name, size in _maps(shape).items() if full or name in entry["targets"]}
    if entry["dropout"]:  # every map reads a copy of its own, and keeps what was dropped
        kept = sum((b + 1) * size for _, size, _ in maps.values())
    else:
        kept = sum({read: b * size for read, size, _ in maps.values()}.values())
    attention = 4 * query * b if on_gpu else 8 * (query + key)
    tokens = training["max_length"]
    work_of_a_row = tokens * (above * (8 * hidden + attention + 3 * ffn * b) + lora * kept)
    if not on_gpu and not full:
        work_of_a_row += HOLES * tokens * lora * sum(size for _, _, size in maps.values()) * b
    logits = tokens * _labels(config) * vocab * (b + 8)
    # In 32 bits: gradient and two moments; of weights in bfloat16 also the copy that the optimizer works on.
    state = (12 if full and dtype == "float32" else 16) * trained_parameters(config, job)
    seen_again = training["max_tokens"] / training["epochs"] + 2 * training["heldout_examples"] * work.EXAMPLE_TOKENS
    prefix = min(training["prefix_cache_gib"] * 2**30, seen_again * hidden * b) * (above < n_layers)
    return work_of_a_row + logits + state + (0 if on_gpu else prefix)


def _maps(shape: dict) -> dict[str, tuple[str, int, int]]:
    """{linear map of a layer: (what it reads, input features, output features)}."""
    hidden, ffn = shape["hidden"], shape["ffn"]
    query, key = (shape[heads] * shape["head_dim"] for heads in ("n_heads", "n_kv_heads"))
    return {
        "q_proj": ("first norm", hidden, query),
        "k_proj": ("first norm", hidden, key),
        "v_proj": ("first norm", hidden, key),
        "o_proj": ("attention", query, hidden),
        "gate_proj": ("second norm", hidden, ffn),
        "up_proj": ("second norm", hidden, ffn),
        "down_proj": ("activation", ffn, hidden),
    }


def _labels(config: dict) -> float:
    """Share of the tokens of a row that are answers, whose logits are made: all, of data that nothing is known of."""
    return max(LABELS.get(source["kind"], 1.0) for source in config["mixture"]["sources"])


def trained_parameters(config: dict, job: dict) -> float:
    """Parameters that an arm trains, about: all, or LoRA of the config's rank on the layers that its rule chooses.

    Of a job without an arm (layer gain): LoRA on all layers.
    """
    shape, entry = config["models"][job["model"]]["geometry"], config["arms"].get(job.get("arm"), {"lora": ""})
    if entry.get("full"):
        return plan.parameters(shape)
    if "budget" in entry:
        return trained_parameters(config, job | {"arm": entry["budget"].removeprefix("match ")})
    lora = config["training"]["lora"] | entry
    layers, _ = adapted("train_arm", config, job, shape["n_layers"])
    of_rank_1 = sum(into + out for name, (_, into, out) in _maps(shape).items() if name in lora["targets"])
    return layers * lora["rank"] * of_rank_1


def _is_full(config: dict, job: dict) -> bool:
    """Whether a job's arm is a full fine-tune."""
    return bool(config["arms"].get(job.get("arm"), {}).get("full"))


def adapted(rule: str, config: dict, job: dict, n_layers: int) -> tuple[int, int]:
    """(layers with LoRA, layers from the first adapted one on) of a job, the most that its rules allow."""
    if rule == "gain_layer" or "arm" not in job:
        return n_layers, n_layers
    entry = config["arms"][job["arm"]]
    sets = {part: _most(config["layer_sets"][entry[part]], n_layers) for part in PARTS if part in entry}
    return sets.get("lora", (0, 0))[0], n_layers - min((first for _, first in sets.values()), default=0)


def _most(rule: dict, n_layers: int) -> tuple[int, int]:
    """(number of layers, lowest layer) of a layer set: what its rule says, or the most that it can choose."""
    for key in ("top", "bottom", "random"):
        if key in rule:
            return layer_sets.count(rule[key], n_layers), 0
    if "union" in rule or "minus" in rule or "shift" in rule:
        return n_layers, 0
    layers = layer_sets.select("", rule, n_layers)
    return len(layers), layers[0]


def _evaluation(rule: str, config: dict, job: dict, shape: dict, dtype: str, on_gpu: bool) -> float:
    chosen, b = config["evaluation"], BYTES[dtype]
    hidden, ffn, vocab, n_layers = (shape[key] for key in ("hidden", "ffn", "vocab", "n_layers"))
    names = [job["benchmark"]] if "benchmark" in job else config["select"]["benchmarks"]
    read, written = (max(work.sizes(config["benchmarks"][name])[place] for name in names) for place in (2, 3))
    tokens = chosen["batch_tokens"] if on_gpu else min(chosen["batch_tokens"], chosen["batch_size"] * (read + written))
    positions = min(chosen["batch_tokens"] // 4, chosen["batch_size"] * ANSWER_POSITIONS)
    kept = 1 if written or on_gpu else 0  # while an answer is written; on cards also of a shared beginning
    cache = kept * 2 * shape["n_kv_heads"] * shape["head_dim"] * n_layers * (b if on_gpu else 4)
    heads = (dtype != "float32") * (1 if on_gpu else 2) + (not on_gpu)
    return tokens * (cache + 2 * ffn * b + 8 * hidden) + 8 * positions * vocab + 4 * heads * hidden * vocab


def ask_mib(rule: str, config: dict, job: dict, attempt: int = 1) -> int:
    """MiB of the host that a job asks for."""
    if rule in plan.MODEL_RULES:
        needed = memory(rule, config, job).host_mib * MARGIN
    elif rule == "prepare_model":
        needed = 1000 + 12 * plan.parameters(config["models"][job["model"]]["geometry"]) / MIB
    else:
        needed = LIGHT.get(rule, OTHER)[0]
    scale = config["resources"]["memory_scale"] * ATTEMPT["memory"] ** (attempt - 1)
    return math.ceil((needed + SNAKEMAKE) * scale)


def ask_minutes(rule: str, config: dict, job: dict, attempt: int = 1) -> int:
    """Minutes that a job asks for."""
    if rule in plan.MODEL_RULES:
        seconds = plan.modelled_seconds(rule, config, plan.device_of(config), job)
        minutes = max(SHORTEST, SAFETY * seconds / 60)
    elif rule == "prepare_model":
        minutes = max(SHORTEST, SAFETY * plan.modelled_seconds(rule, config, "cuda", job) / 60)
    else:
        minutes = LIGHT.get(rule, OTHER)[1]
    return math.ceil(minutes * config["resources"]["time_scale"] * ATTEMPT["time"] ** (attempt - 1))
