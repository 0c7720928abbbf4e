"""Evaluation speed against lm-eval's own `hf` backend: same tasks, same model, same predictions.

    python benchmarks/evaluation.py                      SmolLM2-135M-Instruct on one core, about 25 minutes
    python benchmarks/evaluation.py --cases mmlu arc --limit 8 --repeats 1     some of it, and less of each
    python benchmarks/evaluation.py --shape llama31-8b --device cuda --dtype bfloat16     random weights, made-up tokens

Both sides get the same lm-eval tasks (real data from --datasets, laid out as hub repositories), the same weights in
float32 and one thread. Each run is a process of its own, sides take turns (A B B A), and ratios are made within a turn:
of processor time, which other programs on the machine disturb least, and of wall time. On a GPU wall time decides.
Loading is not counted, but for the last case: from the start of a job's process to its first forward pass. Stock runs
with the batch size that is best for it, found in a turn of its own. Predictions are compared item by item, and
log-likelihoods to 1e-4. Printed as Markdown: a row a case as soon as it is measured.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "resources/models/smollm2-135m"
SEED, BATCH_SIZE = 1234, 16
SIDES = {"stock": "lm-eval hf", "colocate": "colocate"}
STOCK_SIZES = (1, 4, 16)
MMLU, ARC, GSM8K, MGSM = "cais/mmlu", "allenai/ai2_arc", "openai/gsm8k", "juletxara/mgsm"
GERMAN = {"task": "mgsm_native_cot_de", "source": MGSM, "num_fewshot": 8}
SUMS = {"task": "gsm8k", "source": GSM8K, "num_fewshot": 8}
CASES = {  # name: (what it is, task, least ratio)
    "mmlu": ("MMLU anatomy, 5 shots", {"task": "mmlu_anatomy", "source": MMLU, "num_fewshot": 5, "limit": 24}, 3.0),
    "arc": ("ARC-Challenge, 5 shots", {"task": "arc_challenge", "source": ARC, "num_fewshot": 5, "limit": 16}, 3.0),
    "arc0": ("ARC-Challenge, 0 shots", {"task": "arc_challenge", "source": ARC, "num_fewshot": 0, "limit": 48}, 2.0),
    "gsm8k": ("GSM8K, the same 8 shots", SUMS | {"limit": 16, "first_n": True}, 1.5),
    "gsm8k_drawn": ("GSM8K, 8 shots drawn anew", SUMS | {"limit": 8}, 1.5),
    "mgsm": ("MGSM, its 8 shots in order", GERMAN | {"limit": 12, "first_n": True}, 1.5),
    "mgsm_drawn": ("MGSM, its 8 shots shuffled", GERMAN | {"limit": 8}, 1.5),
}
# Where a question has examples of its own, prompts share nothing, and both sides run every token of them.
FIRST_PASS = {"base": 6.0, "adapter": 8.0}  # seconds from the start of a job to its first forward pass
COLUMNS = [
    *("case", "times as fast: processor", "wall", "processor s: colocate", "lm-eval hf", "its batch size"),
    *("answers alike", "log-likelihoods within", "scores", "peak MiB: colocate, lm-eval hf", "target"),
]
FIRST_COLUMNS = [
    "first forward pass",
    "colocate s",
    "processor s",
    "lm-eval hf s",
    "processor s",
    "target, processor s",
]
SHAPES = {
    "llama31-8b": {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 128256, "rope_theta": 500000.0, "max_position_embeddings": 8192,
    },
    "tiny": {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 300, "max_position_embeddings": 2048,
    },
}  # fmt: skip


# --------------------------------------------------------------------------------------------------- one run of a side


def backend(side: str, model, tokenizer, size: int):
    if side == "stock":
        from lm_eval.models.huggingface import HFLM

        return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=size)
    from colocate.evaluation.backend import LiveModel

    return LiveModel(model, tokenizer, size)


def measure(side: str, case: str, size: int, datasets: Path, model_folder: Path, dtype: str, profiled=False, **changes):
    """Evaluate a case in this process: seconds, peak memory, and what was answered. `changes`: of its task."""
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TQDM_DISABLE="1", TOKENIZERS_PARALLELISM="false")
    import torch
    from lm_eval import evaluator

    from colocate import devices, models, onednn
    from colocate.evaluation import tasks

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as cache:
        places = {"benchmarks_dir": ROOT / "data/benchmarks", "datasets_dir": datasets, "cache_dir": Path(cache)}
        task = CASES[case][1] | changes
        loaded = tasks.load(task, seed=SEED, **places)
        model, tokenizer = models.load_model(model_folder, dtype, "cpu"), models.load_tokenizer(model_folder)
        lm = backend(side, model, tokenizer, size)
        ours = onednn.float32_layers(model) if side == "colocate" else contextlib.nullcontext()  # as evaluate() has it

        def run():
            with ours:
                return evaluator.evaluate(lm, {"tasks": loaded}, limit=task["limit"], bootstrap_iters=0)

        wall, processor = time.perf_counter(), time.process_time()
        if profiled:
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
                run()
            return {"profile": profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=15)}
        results = run()
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
    (samples,) = results["samples"].values()
    first_filter = samples[0]["filter"]
    answers = [sample["resps"] for sample in samples if sample["filter"] == first_filter]
    scores = {key: value for key, value in next(iter(results["results"].values())).items() if "stderr" not in key}
    return {
        "wall": wall,
        "processor": processor,
        "peak_mib": devices.peak_memory_mib()["cpu"],
        "answers": answers,
        "scores": {key: value for key, value in scores.items() if isinstance(value, float)},
    }


def first_pass(side: str, adapter: Path | None, datasets: Path, model: Path = MODEL) -> tuple[float, float]:
    """From a process that evaluates arc_easy to the model's first forward pass: seconds, and of processor time."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--first", side, folder, str(adapter or "")]
        command += ["--datasets", str(datasets), "--model", str(model)]
        started = time.time()
        done = subprocess.run(command, text=True, capture_output=True)
        found = Path(folder, "first")
        if not found.is_file():
            raise SystemExit(f"{' '.join(command)}\n{done.stderr[-3000:]}")
        moment, processor = map(float, found.read_text().split())
        return moment - started, processor


def until_first_pass(side: str, folder: Path, adapter: Path | None, datasets: Path, model: Path) -> None:
    """Run one job in this process as it is run elsewhere, up to the first call of a causal language model."""
    import runpy

    import torch

    def note(module, _):
        if type(module).__name__.endswith("ForCausalLM"):
            Path(folder, "first").write_text(f"{time.time()!r} {time.process_time()!r}")
            os._exit(0)

    torch.nn.modules.module.register_module_forward_pre_hook(note)
    task = {"task": "arc_easy", "source": ARC, "num_fewshot": 0, "limit": 4}
    if side == "stock":
        peft = f",peft={adapter}" if adapter else ""
        sys.argv = ["lm_eval", "run", "--model", "hf", "--model_args", f"pretrained={model},dtype=float32{peft}"]
        sys.argv += ["--device", "cpu", "--tasks", "arc_easy", "--limit", "4"]
        os.chdir(datasets)  # where the hub id of the data set is a folder
        runpy.run_module("lm_eval", run_name="__main__")
        return
    geometry, names = folder / "geometry.json", ("summary", "per_item", "run")
    geometry.write_text(json.dumps({"dtype": "float32", "device": "cpu"}))
    evaluation = {"seed": SEED, "batch_size": BATCH_SIZE, "sandbox": "auto"}
    settings = {"benchmark": "arc", "task": task, "evaluation": evaluation}
    os.environ["COLOCATE_DATASETS"] = str(datasets)
    (folder / "resources").mkdir()
    (folder / "resources/datasets").symlink_to(datasets)
    (folder / "data").symlink_to(ROOT / "data")
    os.chdir(folder)
    script = str(ROOT / "workflow/scripts/evaluate_arm.py")
    sys.argv = [script, "--model", str(model / "manifest.json"), "--geometry", str(geometry)]
    sys.argv += ["--settings", json.dumps(settings)]
    sys.argv += [part for name in names for part in (f"--{name}", str(folder / name))]
    if adapter:
        sys.argv += ["--adapter", str(adapter / "adapter_model.safetensors")]
    runpy.run_path(script, run_name="__main__")


# ----------------------------------------------------------------------------------- a shape with made-up tokens (GPU)


def shape_of(model) -> dict:
    """{layers, body (weights of linear maps a layer), head}: what operations a token follow from, packed or not."""
    c = model.config
    head_dim = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    attention = 2 * (c.num_attention_heads + c.num_key_value_heads) * head_dim * c.hidden_size
    body = attention + 3 * c.hidden_size * c.intermediate_size
    return {"layers": c.num_hidden_layers, "body": body, "head": c.hidden_size * c.vocab_size}


KINDS = ("loglikelihood", "answers")


def throughput(
    side: str, shape: str, dtype: str, device: str, size: int, scale: float, model=None, kinds=KINDS
) -> dict:
    """Tokens a second of a randomly initialised Llama: 5-shot questions with four choices, and 8-shot answers.

    `scale` shortens everything; `model` is one of that shape that is there already. `share`: of the limit, which is the
    rate of a large product for log-likelihoods (layers over every token, shared ones once, and the head where a choice
    is read) and the rate at which weights and keys can be read for answers.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    if model is None:
        with torch.device(device):
            model = LlamaForCausalLM._from_config(LlamaConfig(**SHAPES[shape]), dtype=getattr(torch, dtype)).eval()
    generator = torch.Generator().manual_seed(1)

    def ids(count: float) -> list[int]:
        return torch.randint(3, 290, (max(2, int(count * scale)),), generator=generator).tolist()

    lm = backend(side, model, tokenizer_of_numbers(), size)
    shots = ids(700)
    questions = [shots + ids(90) for _ in range(2 * size)]
    requests = [(("", ""), question, [choice]) for question in questions for choice in (10, 11, 12, 13)]
    n_tokens, parts, found = sum(map(len, questions)), shape_of(model), {}
    if "loglikelihood" in kinds:
        seconds = timed(lambda: lm._loglikelihood_tokens(requests, disable_tqdm=True), device)
        found["loglikelihood"] = {"tokens": n_tokens, "tokens_s": n_tokens / seconds}
        if side == "colocate":
            computed = len(shots) + sum(len(question) - len(shots) for question in questions)
            work = 2 * (parts["layers"] * parts["body"] * computed + parts["head"] * len(questions))
            found["loglikelihood"]["share"] = work / seconds / matmul_rate(model.dtype, device)
    if "answers" not in kinds:
        return found
    from lm_eval.api.instance import Instance

    length = max(2, int(256 * scale))
    options = {"until": [], "max_gen_toks": length, "do_sample": False}
    prompts = [" ".join(map(str, question)) for question in questions]
    asked = [Instance("generate_until", {}, (prompt, options), 0) for prompt in prompts]
    seconds = timed(lambda: lm.generate_until(asked, disable_tqdm=True), device)
    written = len(prompts) * length
    config = model.config
    width = 2 * config.num_key_value_heads * config.head_dim * config.num_hidden_layers * model.dtype.itemsize
    steps = length * len(prompts) / size
    weights = parts["layers"] * parts["body"] + parts["head"]
    read = steps * (weights * model.dtype.itemsize + size * (len(questions[0]) + length / 2) * width)
    found["answers"] = {"tokens": written, "tokens_s": written / seconds, "share": read / seconds / copy_rate(device)}
    return found


def tokenizer_of_numbers():
    """Text "5 17 3" is tokens 5, 17, 3: random weights need no words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<end>": 0, "<bos>": 1, "<unk>": 2} | {str(number): number for number in range(3, 300)}
    tokenizer = Tokenizer(models.WordLevel(words, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>", unk_token="<unk>")


def timed(function, device: str) -> float:
    import torch

    started = time.perf_counter()
    function()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def matmul_rate(dtype, device: str) -> float:
    """Operations a second of a large product: the best of five."""
    import torch

    n = 8192 if device == "cuda" else 1024
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    return 2 * n**3 / min(timed(lambda: a @ b, device) for _ in range(6))


def copy_rate(device: str) -> float:
    """Bytes a second that can be read, from a large sum: the best of five."""
    import torch

    values = torch.ones(2**28 if device == "cuda" else 2**24, device=device)
    return values.nbytes / min(timed(values.sum, device) for _ in range(6))


# --------------------------------------------------------------------------------------------------------- the report


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 1 if a target is missed or the sides differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=[*CASES, "first"], default=[*CASES, "first"])
    parser.add_argument("--repeats", type=int, default=2, help="turns, each of both sides")
    sizes = {"type": int, "nargs": "+", "default": STOCK_SIZES, "metavar": "SIZE"}
    parser.add_argument("--stock-sizes", **sizes, help="batch sizes of which stock's best is taken")
    parser.add_argument("--limit", type=int, help="items of each case (default: as listed in the file)")
    mirror = os.environ.get("COLOCATE_DATASETS", ROOT / "resources/datasets")
    parser.add_argument("--datasets", type=Path, default=mirror, help="real data, laid out as hub repositories")
    parser.add_argument("--model", type=Path, default=MODEL, help="folder of a prepared model")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--shape", choices=list(SHAPES), help="random weights of a shape and made-up tokens instead")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="with --shape")
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE)
    parser.add_argument("--scale", type=float, default=1.0, help="with --shape: share of the lengths")
    parser.add_argument("--run", nargs=3, metavar=("SIDE", "CASE", "SIZE"), help="one run, as JSON (used by itself)")
    parser.add_argument("--first", nargs=3, metavar=("SIDE", "FOLDER", "ADAPTER"), help="used by itself")
    parser.add_argument("--profile", action="store_true", help="with --run: where its time goes, instead")
    options = parser.parse_args(arguments)
    datasets, model = Path(options.datasets).resolve(), options.model.resolve()
    if options.first:
        side, folder, adapter = options.first
        until_first_pass(side, Path(folder), Path(adapter) if adapter else None, datasets, model)
    elif options.run:
        side, case, size = options.run
        changes = {"limit": options.limit} if options.limit else {}
        print(json.dumps(measure(side, case, int(size), datasets, model, options.dtype, options.profile, **changes)))
    elif options.shape:
        for side in SIDES:
            found = throughput(side, options.shape, options.dtype, options.device, options.batch_size, options.scale)
            for kind, one in found.items():
                share = f", {one['share']:.0%} of the limit" if "share" in one else ""
                print(f"{options.shape} {SIDES[side]} {kind}: {one['tokens_s']:.0f} tokens/s{share}")
    else:
        return compare(options, datasets, model)
    return 0


def compare(options, datasets: Path, model: Path) -> int:
    """Print a row of the table as soon as a case is measured, and where the time goes of one that misses its target.

    Returns the exit status: 1 if a target is missed, or the sides' scores or log-likelihoods differ.
    """
    more = ["--datasets", str(datasets), "--model", str(model), "--dtype", options.dtype]
    more += ["--limit", str(options.limit)] if options.limit else []
    cases = [case for case in options.cases if case != "first"]
    if cases:
        print(row(COLUMNS), row(["---"] * len(COLUMNS)), sep="\n", flush=True)
    slow, wrong = [], []
    for case in cases:
        sizes = {size: subprocess_run("stock", case, size, more) for size in options.stock_sizes}
        best = min(sizes, key=lambda size: sizes[size]["processor"])
        records: dict[str, list] = {side: [] for side in SIDES}
        for turn in range(options.repeats):
            for side in list(SIDES)[:: 1 if turn % 2 == 0 else -1]:
                size = best if side == "stock" else options.batch_size
                records[side].append(subprocess_run(side, case, size, more))
        print(row(report(case, best, records)), flush=True)
        wrong += [case] * (not same(records))
        slow += [case] * (statistics.mean(ratios(records, "processor")) < CASES[case][2])
    for case in slow:
        print(f"\n{case}: where the time of colocate goes\n")
        profiled = [*more, "--profile", "--limit", "2"]  # of a long run, a profile takes more memory than the run
        print(subprocess_run("colocate", case, options.batch_size, profiled)["profile"], flush=True)
    late = compare_first_passes(options.repeats, datasets, model) if "first" in options.cases else []
    for case in slow + late + wrong:
        print(f"missed: {case}{' (answers differ)' * (case in wrong)}", flush=True)
    return int(bool(slow + late + wrong))


def compare_first_passes(repeats: int, datasets: Path, model: Path) -> list[str]:
    """Print a row for each kind of job; returns those that come too late."""
    late = []
    print("\n" + row(FIRST_COLUMNS), row(["---"] * len(FIRST_COLUMNS)), sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        adapter = make_adapter(Path(folder), model)
        for kind, most in FIRST_PASS.items():
            chosen = adapter if kind == "adapter" else None
            found: dict[str, list] = {side: [] for side in SIDES}
            for _ in range(repeats):
                for side in SIDES:
                    found[side].append(first_pass(side, chosen, datasets, model))
            middle = {side: [statistics.median(values) for values in zip(*found[side], strict=True)] for side in SIDES}
            seconds = [f"{value:.1f}" for side in ("colocate", "stock") for value in middle[side]]
            met = middle["colocate"][1] <= most
            print(row([kind, *seconds, f"{most:.0f}: {verdict(met)}"]), flush=True)
            if not met:
                late.append(f"first forward pass, {kind}")
                print("what takes longest to import:\n" + "\n".join(imports(chosen, datasets, model)), flush=True)
    return late


def imports(adapter: Path | None, datasets: Path, model: Path) -> list[str]:
    """The packages that a job imports before its first forward pass, with their own milliseconds: the ten longest."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-X", "importtime", __file__, "--first", "colocate", folder, str(adapter or "")]
        command += ["--datasets", str(datasets), "--model", str(model)]
        done = subprocess.run(command, text=True, capture_output=True)
    spent: dict[str, float] = {}
    for line in done.stderr.splitlines():
        if line.startswith("import time:") and line.split("|")[0].split()[-1].isdigit():
            package = line.split("|")[2].strip().split(".")[0]
            spent[package] = spent.get(package, 0) + int(line.split("|")[0].split()[-1]) / 1000
    return [f"    {name}: {spent[name]:.0f} ms" for name in sorted(spent, key=spent.get, reverse=True)[:10]]


def make_adapter(folder: Path, source: Path = MODEL) -> Path:
    """A plain LoRA adapter, which both sides can load."""
    from colocate import adapters, files, models
    from colocate.budget import AdapterSpec

    model = models.load_model(source, "float32", "cpu")
    adapters.save(adapters.adapt(model, AdapterSpec((0, 1, 2), (), 8, 16, ("q_proj", "v_proj"))), folder)
    written = {path.name: files.sha256(path) for path in folder.glob("adapter_*")}
    files.write_json(folder / "manifest.json", {"sha256": written})
    return folder


def subprocess_run(side: str, case: str, size: int, more: list[str]) -> dict:
    command = [sys.executable, __file__, "--run", side, case, str(size), *more]
    done = subprocess.run(command, text=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def ratios(records: dict, clock: str) -> list[float]:
    """Seconds of stock over those of colocate, turn by turn."""
    return [theirs[clock] / ours[clock] for theirs, ours in zip(records["stock"], records["colocate"], strict=True)]


def agreement(theirs: dict, ours: dict) -> tuple[int, int, float]:
    """(items answered alike, items, largest difference of a log-likelihood)."""
    alike, worst = 0, 0.0
    for one, other in zip(theirs["answers"], ours["answers"], strict=True):
        if isinstance(one[0][0], str):
            alike += one == other
            continue
        values = [[float(response[0][0]) for response in side] for side in (one, other)]
        worst = max(worst, *(abs(a - b) for a, b in zip(*values, strict=True)))
        alike += values[0].index(max(values[0])) == values[1].index(max(values[1]))
    return alike, len(ours["answers"]), worst


def same(records: dict) -> bool:
    """Whether both sides have the same scores, and the same log-likelihoods to 1e-4."""
    theirs, ours = records["stock"][0], records["colocate"][0]
    return theirs["scores"] == ours["scores"] and agreement(theirs, ours)[2] <= 1e-4


def report(case: str, best: int, records: dict) -> list[str]:
    """A row of COLUMNS: ratios with their spread, seconds, agreement, memory, and whether the target is met."""
    name, _, least = CASES[case]
    theirs, ours = records["stock"], records["colocate"]
    alike, count, worst = agreement(theirs[0], ours[0])
    return [
        f"{name}, {count} items",
        *(spread(ratios(records, clock)) for clock in ("processor", "wall")),
        *(f"{statistics.mean(one['processor'] for one in side):.1f}" for side in (ours, theirs)),
        str(best),
        f"{alike} of {count}",
        f"{worst:.0e}" if worst else "-",
        "equal" if theirs[0]["scores"] == ours[0]["scores"] else "DIFFER",
        f"{ours[0]['peak_mib']:.0f}, {theirs[0]['peak_mib']:.0f}",
        f"{least}: {verdict(statistics.mean(ratios(records, 'processor')) >= least)}",
    ]


def spread(values: list[float]) -> str:
    """Mean, and smallest to largest where there are several."""
    ends = f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{ends}"


def row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def verdict(met: bool) -> str:
    return "met" if met else "MISSED"


if __name__ == "__main__":
    sys.exit(main())
