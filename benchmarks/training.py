"""Training speed and memory against what a user would write: Hugging Face's Trainer with PEFT's LoRA on chosen layers.

    python benchmarks/training.py                            SmolLM2-135M-Instruct on one core, about 5 minutes
    python benchmarks/training.py --shape llama31-8b --device cuda --dtype nf4    a random model of that shape

Both sides train the same LoRA (rank 16 on all seven linear maps of the chosen layers) from the same start, on the same
examples in the same order, eight a step, three epochs, with AdamW, the same linear schedule and clipping, in the same
dtype. The Trainer pads its batches and keeps its defaults; here rows are packed and the input of the first adapted
layer is kept. Each run is a process of its own, sides take turns, and ratios are made within a turn: of tokens of real
text (no padding) per second of processor time, which other programs on the machine disturb least, and of wall time. On
a GPU wall time decides. Loading a model is not counted. GARFA's own cost is that of its steps over steps without it,
one of each in turn. The held-out loss at the end is measured in one way for both sides, by the stock forward, one
example at a time; the noise to compare with is its spread over seeds.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
EPOCHS, BATCH, RANK, RATE, HELDOUT = 3, 8, 16, 5e-4, 24
SIDES = {"trainer": "Trainer + PEFT", "colocate": "colocate"}
CASES = {"last": ("LoRA on the last 30 % of layers", 2.0), "all": ("LoRA on all layers", 1.3)}  # and least ratio
GARFA_COST = 0.02  # at most
SHAPES = {
    "llama31-8b": {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 128256, "rope_theta": 500000.0, "max_position_embeddings": 8192,
    },
    "tiny": {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 300, "max_position_embeddings": 512,
    },
}  # fmt: skip


# -------------------------------------------------------------------------------------------------- model, examples


def load(shape: str, dtype: str, device: str):
    """SmolLM2 as the workflow prepares it, or a randomly initialised Llama of a shape."""
    import torch

    from colocate import models

    if shape == "smollm2":
        return models.load_model(ROOT / "resources/models/smollm2-135m", dtype, device)
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    compute = torch.float32 if dtype.endswith("float32") else torch.bfloat16
    with torch.device(device):
        model = LlamaForCausalLM._from_config(LlamaConfig(**SHAPES[shape]), dtype=compute)
    return (quantised(model) if dtype.startswith("nf4") else model).eval()


def quantised(model):
    """The decoder's linear maps in nf4, as transformers quantises them on loading, computing in the model's dtype."""
    import bitsandbytes as bnb
    import torch

    for layer in model.get_decoder().layers:
        for parent in layer.modules():
            for name, child in list(parent.named_children()):
                if type(child) is torch.nn.Linear:
                    narrow = bnb.nn.Linear4bit(
                        child.in_features, child.out_features, bias=False, compute_dtype=model.dtype,
                        quant_type="nf4", device="meta",
                    )  # fmt: skip
                    weight = bnb.nn.Params4bit(
                        child.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=True
                    )
                    narrow.weight = weight.to(child.weight.device)
                    setattr(parent, name, narrow)
    model.is_loaded_in_4bit = True
    return model


def read(shape: str, n_tokens: int) -> dict:
    """Training examples of about n_tokens over all epochs, and held-out ones; random tokens for a random model."""
    from colocate import mixtures, models
    from colocate.training_data import Example, Settings, read_examples

    if shape == "smollm2":
        tokenizer = models.load_tokenizer(ROOT / "resources/models/smollm2-135m")
        with tempfile.TemporaryDirectory() as folder:
            mixtures.build_mixture([{"kind": "builtin"}], 0, folder)
            train, heldout = (
                read_examples(Path(folder) / f"{split}.jsonl", tokenizer, Settings())[0]
                for split in ("train", "validate")
            )
    else:  # 20 to 400 tokens, a quarter of them labels
        stream, vocabulary = np.random.default_rng(0), SHAPES[shape]["vocab_size"]
        longest = min(400, SHAPES[shape]["max_position_embeddings"])
        rows = [stream.integers(0, vocabulary, n).tolist() for n in stream.integers(20, longest, 2000)]
        rows = [(row, [-100] * (3 * len(row) // 4) + row[3 * len(row) // 4 :]) for row in rows]
        examples = [Example(f"random-{i}", f"random-{i}", ids, labels) for i, (ids, labels) in enumerate(rows)]
        train, heldout = examples[HELDOUT:], examples[:HELDOUT]
    ends = np.cumsum([len(example.ids) for example in train])
    n = max(BATCH, int(np.searchsorted(ends, n_tokens / EPOCHS)))
    return {"train": train[: n - n % BATCH], "heldout": heldout[:HELDOUT]}


def steps(n: int, seed: int) -> list[list[int]]:
    """Indices of the examples of each step: a permutation an epoch."""
    order = np.concatenate([np.random.default_rng([seed, epoch]).permutation(n) for epoch in range(EPOCHS)])
    return order.reshape(-1, BATCH).tolist()


def chosen_layers(case: str, n_layers: int) -> list[int]:
    return list(range(n_layers - round(0.3 * n_layers) if case != "all" else 0, n_layers))


# -------------------------------------------------------------------------------------------------------- two sides


def train_trainer(model, layers: list[int], data: dict, seed: int, device: str):
    """As a user would write it. Returns the trained model, and a function that trains it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerFast, Trainer, TrainingArguments

    torch.manual_seed(seed)
    model = get_peft_model(
        model,
        LoraConfig(
            task_type="CAUSAL_LM", r=RANK, lora_alpha=2 * RANK, target_modules=list(TARGETS), layers_to_transform=layers
        ),
    )
    rows = [
        {"input_ids": example.ids, "attention_mask": [1] * len(example.ids), "labels": example.labels}
        for example in data["train"]
    ]
    from tokenizers import Tokenizer, models

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE({"<pad>": 0}, [])), pad_token="<pad>")
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=tempfile.mkdtemp(),
            num_train_epochs=1,  # three, written one after the other, so that both sides see one order
            train_sampling_strategy="sequential",
            per_device_train_batch_size=BATCH,
            learning_rate=RATE,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=device == "cpu",
            seed=seed,
        ),
        train_dataset=[rows[index] for step in steps(len(rows), seed) for index in step],
        data_collator=DataCollatorForSeq2Seq(tokenizer),
    )
    return model, trainer.train


def train_colocate(model, layers: list[int], data: dict, seed: int, device: str):
    from colocate.fitting import Run, fit
    from colocate.training_data import Settings, Step

    model = adapted(model, layers, False, seed)
    settings = Settings(epochs=EPOCHS, warmup=0.0, schedule="linear", prefix_cache_gib=4.0)
    order, plan, seen = steps(len(data["train"]), seed), [], 0
    for number, step in enumerate(order, start=1):
        seen += sum(len(data["train"][index].ids) for index in step)
        plan.append(Step(tuple(step), number * BATCH / len(data["train"]), seen))
    run = Run({"train": data["train"]}, plan, settings, {"lora": RATE, "garfa": 0.0}, device)
    return model, lambda: fit(model, run, (), None, "", lambda fraction, note: None)


def adapted(model, layers: list[int], garfa: bool, seed: int):
    import torch

    from colocate import adapters
    from colocate.budget import AdapterSpec

    torch.manual_seed(seed)
    return adapters.adapt(model, AdapterSpec(layers, layers if garfa else (), RANK, 2 * RANK, TARGETS))


def garfa_cost(shape: str, dtype: str, device: str, n_tokens: int, seed: int) -> dict:
    """Seconds of forward and backward with GARFA on every adapted layer, over those without it, step by step."""
    from contextlib import ExitStack

    import torch

    from colocate import lora_compute, packed_attention
    from colocate.fitting import Run, accumulate
    from colocate.training_data import Settings

    torch.set_num_threads(1)
    data = read(shape, n_tokens)
    run = Run(data, [], Settings(), {}, device)
    seconds = {False: [], True: []}
    with ExitStack() as stack:
        pair = {}
        for garfa in seconds:
            model = load(shape, dtype, device)
            model = adapted(model, chosen_layers("last", model.config.num_hidden_layers), garfa, seed)
            stack.enter_context(lora_compute.in_base_dtype(model))
            stack.enter_context(packed_attention.per_example(model))
            pair[garfa] = model
        clock = time.perf_counter if device == "cuda" else time.process_time
        for turn, step in enumerate(steps(len(data["train"]), seed)):
            for garfa in sorted(pair, reverse=turn % 2 == 1):
                started = clock()
                accumulate(pair[garfa], run, [data["train"][index] for index in step])
                if device == "cuda":
                    torch.cuda.synchronize()
                seconds[garfa].append(clock() - started)
    pairs = zip(seconds[False][1:], seconds[True][1:], strict=True)  # without the first, a warm-up
    return {"costs": [with_it / without - 1 for without, with_it in pairs]}


def measure(
    side: str, case: str, shape: str, dtype: str, device: str, n_tokens: int, seed: int, profiled=False
) -> dict:
    """One training run in this process."""
    import torch

    from colocate import devices

    torch.set_num_threads(1)
    model, data = load(shape, dtype, device), read(shape, n_tokens)
    layers = chosen_layers(case, model.config.num_hidden_layers)
    work = flops(model, layers, data, kept=side == "colocate")
    rate = matmul_rate(model.dtype, device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    before = devices.peak_memory_mib()
    if side == "trainer":
        model, train = train_trainer(model, layers, data, seed, device)
    else:
        model, train = train_colocate(model, layers, data, seed, device)
    wall, processor = time.perf_counter(), time.process_time()
    if profiled:
        activities = [torch.profiler.ProfilerActivity.CPU] + [torch.profiler.ProfilerActivity.CUDA] * (device != "cpu")
        with torch.profiler.profile(activities=activities) as profile:
            train()
        return {"profile": profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=15)}
    train()
    if device == "cuda":
        torch.cuda.synchronize()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    place = "gpu" if device == "cuda" else "cpu"
    peak = devices.peak_memory_mib()[place]
    return {
        "tokens": EPOCHS * sum(len(example.ids) for example in data["train"]),
        "wall": wall,
        "processor": processor,
        "peak_mib": peak,
        "loaded_mib": before[place],
        "share": work / wall / rate,
        "loss": heldout_loss(model, data["heldout"], device),
    }


def heldout_loss(model, examples: list, device: str) -> float:
    import torch

    from colocate.fitting import set_mode

    set_mode(model, training=False)
    losses = []
    for example in examples:
        ids, labels = (torch.tensor([row], device=device) for row in (example.ids, example.labels))
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
        losses.append(float(torch.nn.functional.cross_entropy(logits, labels[0, 1:])))
    return sum(losses) / len(losses)


def flops(model, layers: list[int], data: dict, kept: bool) -> int:
    """Operations of the run, by the formula of training_data.training_flops; a kept prefix is computed once."""
    from colocate.budget import AdapterSpec
    from colocate.training_data import training_flops

    shapes = {
        str(number): {
            name.split(".")[-1]: [child.out_features, child.in_features]
            for name, child in layer.named_modules()
            if name.split(".")[-1] in TARGETS
        }
        for number, layer in enumerate(model.get_decoder().layers)
    }
    config = model.config
    width = config.num_attention_heads * (config.hidden_size // config.num_attention_heads)
    geometry = {"linear_shapes": shapes, "n_layers": config.num_hidden_layers, "n_heads": config.num_attention_heads}
    geometry |= {"head_dim": width // config.num_attention_heads, "vocab": config.vocab_size}
    geometry |= {"hidden": config.hidden_size}
    spec = AdapterSpec(tuple(layers), (), RANK, 2 * RANK, TARGETS)
    lengths = [len(example.ids) for example in data["train"]]
    whole = EPOCHS * training_flops(geometry, spec, lengths, sum(example.n_labels for example in data["train"]))
    prefix = sum(2 * out * into for number in range(layers[0]) for out, into in shapes[str(number)].values())
    pairs = sum(n * (n + 1) // 2 for n in lengths)
    return whole - kept * (EPOCHS - 1) * (sum(lengths) * prefix + pairs * 4 * width * layers[0])


def matmul_rate(dtype, device: str) -> float:
    """Operations a second of a large product in the model's dtype: the best of five."""
    import torch

    n = 8192 if device == "cuda" else 1024
    a, b = (torch.randn(n, n, dtype=dtype, device=device) for _ in range(2))
    seconds = []
    for _ in range(6):
        started = time.perf_counter()
        a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return 2 * n**3 / min(seconds[1:])


# ------------------------------------------------------------------------------------------------------- the report


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=["smollm2", *SHAPES], default="smollm2")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "bf16", "nf4"], help="default: the CPU's best, bf16")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--tokens", type=int, default=7500, help="of training text, all epochs together")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--run", nargs=3, metavar=("SIDE", "CASE", "SEED"), help="one run, as JSON (used by itself)")
    parser.add_argument("--profile", action="store_true", help="with --run: where its time goes, instead")
    options = parser.parse_args(arguments)
    if options.dtype is None:
        from colocate.models import resolve_dtype

        options.dtype = resolve_dtype("auto", options.device, "bfloat16")
    options.dtype = {"bf16": "bfloat16"}.get(options.dtype, options.dtype)
    where = (options.shape, options.dtype, options.device, options.tokens)
    if options.run:
        side, case, seed = options.run
        if case == "garfa":
            print(json.dumps(garfa_cost(*where, int(seed))))
        else:
            print(json.dumps(measure(side, case, *where, int(seed), options.profile)))
        return 0
    runs = [(side, case) for case in CASES for side in SIDES]
    records = {run: [] for run in runs}
    print(*HEADER, sep="\n", flush=True)
    for seed in range(options.repeats):
        for run in runs if seed % 2 == 0 else runs[::-1]:
            records[run].append(subprocess_run(*run, *where, seed))
            print(row(*run, records[run][-1:], f", seed {seed}"), flush=True)  # what a time limit may leave
    costs = subprocess_run("colocate", "garfa", *where, 0)["costs"]
    lines = report(records, costs, *where)
    print("", *lines, sep="\n", flush=True)
    for case, (name, least) in CASES.items():
        if statistics.mean(ratios(records, case, timing(options.device))) < least:
            print(f"\n{name}: under the target; where the time of colocate goes:\n", flush=True)
            print(subprocess_run("colocate", case, *where, 0, "--profile")["profile"], flush=True)
    return int(any("MISSED" in line for line in lines))


def subprocess_run(side: str, case: str, shape: str, dtype: str, device: str, n_tokens: int, seed: int, *more) -> dict:
    options = ["--shape", shape, "--dtype", dtype, "--device", device, "--tokens", str(n_tokens), *more]
    command = [sys.executable, __file__, "--run", side, case, str(seed), *options]
    done = subprocess.run(command, text=True, capture_output=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def timing(device: str) -> str:
    return "wall" if device == "cuda" else "processor"


def ratios(records: dict, case: str, clock: str) -> list[float]:
    """Speed of colocate over that of the Trainer, turn by turn."""
    pairs = zip(records["trainer", case], records["colocate", case], strict=True)
    return [theirs[clock] / ours[clock] for theirs, ours in pairs]


HEADER = [
    "| | tokens/s (wall) | tokens/s (processor) | share of matmul rate | peak MiB | held-out loss |",
    "|---|---|---|---|---|---|",
]


def row(side: str, case: str, found: list[dict], which: str = "") -> str:
    """The means of some runs, and each one's loss."""
    mean = {key: statistics.mean(one[key] for one in found) for key in found[0]}
    speeds = " | ".join(f"{mean['tokens'] / mean[key]:.0f}" for key in ("wall", "processor"))
    losses = ", ".join(f"{one['loss']:.4f}" for one in found)
    name = f"{CASES[case][0]}: {SIDES[side]}{which}"
    return f"| {name} | {speeds} | {mean['share']:.0%} | {mean['peak_mib']:.0f} | {losses} |"


def report(records: dict, costs: list[float], shape: str, dtype: str, device: str, n_tokens: int) -> list[str]:
    """A table of the runs, the ratios with their spread, and each target with whether it is met."""
    clock = timing(device)
    tokens = records["trainer", "last"][0]["tokens"]
    lines = [f"{shape}, {dtype}, {device}, one thread: {tokens} tokens in {EPOCHS} epochs, {BATCH} examples a step", ""]
    lines += [*HEADER, *(row(*run, found) for run, found in records.items()), ""]
    for case, (name, least) in CASES.items():
        found = {key: ratios(records, case, key) for key in ("processor", "wall")}
        each = "; ".join(
            f"{statistics.mean(values):.2f} ({min(values):.2f} to {max(values):.2f}) by {key} time"
            for key, values in found.items()
        )
        lines.append(f"{name}: {each}; target {least}: {verdict(statistics.mean(found[clock]) >= least)}")
        peaks = [max(one["peak_mib"] for one in records[side, case]) for side in ("colocate", "trainer")]
        lines.append(f"    peak {peaks[0]:.0f} against {peaks[1]:.0f} MiB: {verdict(peaks[0] <= peaks[1])}")
        differences = [
            ours["loss"] - theirs["loss"]
            for ours, theirs in zip(records["colocate", case], records["trainer", case], strict=True)
        ]
        theirs = [one["loss"] for one in records["trainer", case]]
        spread = f"{max(theirs) - min(theirs):.4f} between seeds" if len(theirs) > 1 else "one seed"
        lines.append(f"    held-out loss differs by {', '.join(f'{one:+.4f}' for one in differences)} ({spread})")
    cost, error = statistics.median(costs), statistics.stdev(costs) / len(costs) ** 0.5
    lines.append(
        f"GARFA's own cost: {cost:+.1%} (median of {len(costs)} pairs of steps, standard error {error:.1%}); "
        f"target under {GARFA_COST:.0%}: {verdict(cost < GARFA_COST)}"
    )
    return lines


def verdict(met: bool) -> str:
    return "met" if met else "MISSED"


if __name__ == "__main__":
    sys.exit(main())
