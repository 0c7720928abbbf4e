"""Speed and memory of every stage on one GPU, on random weights of a model's shape, against what the card can do.

    python benchmarks/gpu.py                                     Llama 3.1 8B's shape in bfloat16 and nf4, on a card
    python benchmarks/gpu.py --shape tiny --device cpu           the same in a minute on any machine: that it runs

| stage | what is timed | limit |
|---|---|---|
| sensitivity | forwards of the layers over 512 texts of 32 tokens, states kept by hooks | F |
| rope | RoPE influence `output`: each layer with both signs from there to the end, in float32 | F |
| lora_last, lora_all | training of LoRA and GARFA on the last 30 % of layers (23-31 of 32), and on all | F |
| trainer_last, trainer_all | the same LoRA by Hugging Face's Trainer and PEFT, without GARFA | F |
| loglikelihood | 5-shot questions with four choices, batches of 64 | F |
| answers | 8-shot answers of 256 tokens, batches of 64 | M |

F: operations of the run over the rate of a large product in the same dtype, measured here. M: bytes of weights and keys
over the rate at which a card reads its memory, measured here; of packed weights nobody counts them, so that answers in
nf4 have no limit. A stage is a process of its own, so that its peak memory is its own; profiles run once before they
are timed. Training is that of `benchmarks/training.py`, log-likelihoods and answers are those of
`benchmarks/evaluation.py`. Targets: half of the limit for forwards (sensitivity, rope, loglikelihood) and lora_last,
1.5 times the Trainer. A row is printed as soon as it is measured; a stage that fails is noted, and the next one runs.
Exit status 1 if one failed or missed its target.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import evaluation
import training
from evaluation import KINDS, row, shape_of

STAGES = ("sensitivity", "rope", "lora_last", "trainer_last", "lora_all", "trainer_all", *KINDS)
DTYPES = ("bfloat16", "nf4")
HALF = ("sensitivity", "rope", "lora_last", "loglikelihood")  # at least half of the limit
LEAST = {"lora_last": ("trainer_last", 1.5), "lora_all": ("trainer_all", 1.5)}  # times as fast as
COLUMNS = ["stage", "dtype", "tokens/s", "limit, tokens/s", "share of the limit", "peak GiB", "target"]


def sensitivity(model, device: str, scale: float) -> dict:
    """Forwards of the layers; operations: 2 a weight and token."""
    import numpy as np

    from colocate.profiles.capture import forwards

    vocabulary, stream = model.config.vocab_size, np.random.default_rng(0)
    texts = [(stream.integers(0, vocabulary, 32).tolist(), 28) for _ in range(max(8, int(512 * scale)))]

    def run() -> None:
        for batch in forwards(model, texts, 8192):
            assert len(batch.calls) == model.config.num_hidden_layers

    run()
    shape, tokens = shape_of(model), 32 * len(texts)
    run()
    seconds = evaluation.timed(run, device)
    return {"tokens_s": tokens / seconds, "work": 2 * tokens * shape["layers"] * shape["body"] / seconds}


def rope(model, device: str, scale: float) -> dict:
    """RoPE influence of windows; tokens: of the windows; operations: those of all the reruns."""
    import numpy as np
    import torch

    from colocate.profiles.rope_influence import FIRST_POSITION, Settings, on_output

    windows, length = 4, max(FIRST_POSITION + 16, int(128 * scale))
    ids = np.random.default_rng(0).integers(0, model.config.vocab_size, (windows, length))
    ids = torch.tensor(ids, device=device)
    chosen = Settings(method="output", text_tokens=length)
    for _ in range(2):
        with torch.no_grad():
            seconds = evaluation.timed(lambda: on_output(model, ids, 0, chosen), device)
    shape, tokens = shape_of(model), windows * length
    layers = shape["layers"]
    reruns = 2 * sum(layers - layer for layer in range(layers)) + layers  # both signs; and the stock pass
    work = 2 * tokens * reruns * shape["body"]
    work += 2 * windows * (length - FIRST_POSITION) * (2 * layers + 1) * shape["head"]
    return {"tokens_s": tokens / seconds, "work": work / seconds}


def train(stage: str, shape: str, dtype: str, device: str, tokens: int) -> dict:
    """A run of benchmarks/training.py, ours with GARFA on the adapted layers."""
    side, case = stage.split("_")
    side = {"lora": "colocate", "trainer": "trainer"}[side]
    plain = training.adapted
    training.adapted = lambda model, layers, garfa, seed: plain(model, layers, True, seed)
    found = training.measure(side, case, shape, dtype, device, tokens, 0)
    training.adapted = plain
    return {"tokens_s": found["tokens"] / found["wall"], "share": found["share"]}


def measure(stage: str, shape: str, dtype: str, device: str, scale: float, tokens: int) -> dict:
    """{tokens_s, share, limit, peak_gib} of one stage, in this process."""
    import torch

    from colocate import devices

    if stage.startswith(("lora", "trainer")):
        found = train(stage, shape, dtype, device, tokens)
    else:
        exact = {"bfloat16": "float32", "nf4": "nf4_float32"}
        model = training.load(shape, exact.get(dtype, dtype) if stage == "rope" else dtype, device)
        if stage in KINDS:
            size = 64 if scale == 1 else 4
            found = evaluation.throughput("colocate", shape, dtype, device, size, scale, model, [stage])[stage]
            if (stage, dtype) == ("answers", "nf4"):  # the limit would have to count bytes of packed weights
                del found["share"]
        else:
            found = {"sensitivity": sensitivity, "rope": rope}[stage](model, device, scale)
            found["share"] = found.pop("work") / training.matmul_rate(model.dtype, device)
    if device == "cuda":
        torch.cuda.synchronize()
    peak = devices.peak_memory_mib()["gpu" if device == "cuda" else "cpu"] / 1024
    share = found.get("share")
    limit = found["tokens_s"] / share if share else None
    return {"tokens_s": found["tokens_s"], "share": share, "limit": limit, "peak_gib": peak}


def card(device: str) -> str:
    """The machine's card in words."""
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else "CPU, one thread"


def line(stage: str, dtype: str, stages: dict[str, dict]) -> str:
    """The row of a stage of {stage: numbers}, with the targets that can be judged by now."""
    one = stages[stage]
    share, limit = (f"{one['share']:.0%}", f"{one['limit']:.0f}") if one.get("share") else ("-", "-")
    judged = []
    if stage in HALF and one.get("share"):
        judged.append(f"50 %: {training.verdict(one['share'] >= 0.5)}")
    for ours, (theirs, least) in LEAST.items():
        if stage in (ours, theirs) and {ours, theirs} <= set(stages):
            ratio = stages[ours]["tokens_s"] / stages[theirs]["tokens_s"]
            judged.append(f"{ours} {ratio:.2f} times as fast, {least}: {training.verdict(ratio >= least)}")
    numbers = [f"{one['tokens_s']:.0f}", limit, share, f"{one['peak_gib']:.1f}"]
    return row([stage, dtype, *numbers, "; ".join(judged) or "-"])


def in_a_process(stage: str, dtype: str, options) -> dict | None:
    """What `measure` finds in a process of its own; None, and why on stderr, where that fails."""
    command = [sys.executable, __file__, "--run", stage, dtype, "--shape", options.shape, "--device", options.device]
    command += ["--scale", str(options.scale), "--tokens", str(options.tokens)]
    done = subprocess.run(command, text=True, capture_output=True)
    if done.returncode:
        print(f"{' '.join(command)}\n{done.stderr[-3000:]}", file=sys.stderr, flush=True)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 1 if a stage failed or a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=["llama31-8b", "tiny"], default="llama31-8b")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--scale", type=float, help="share of the lengths (1; 0.05 for tiny)")
    parser.add_argument("--tokens", type=int, help="of training text, all epochs together (120000; 1500 for tiny)")
    parser.add_argument("--run", nargs=2, metavar=("STAGE", "DTYPE"), help="one stage, as JSON (used by itself)")
    options = parser.parse_args(arguments)
    small = options.shape == "tiny"
    options.scale = options.scale or (0.05 if small else 1.0)
    options.tokens = options.tokens or (1500 if small else 120_000)
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no GPU here: nothing was measured (--shape tiny --device cpu shows that it runs)")
    if options.run:
        stage, dtype = options.run
        print(json.dumps(measure(stage, options.shape, dtype, options.device, options.scale, options.tokens)))
        return 0
    print(f"{options.shape}, random weights, on {card(options.device)}\n")
    print(row(COLUMNS), row(["---"] * len(COLUMNS)), sep="\n", flush=True)
    wrong = False
    for dtype in options.dtypes:
        stages: dict[str, dict] = {}
        for stage in options.stages:
            found = in_a_process(stage, dtype, options)
            if found is None:
                said = row([stage, dtype, "FAILED", *["-"] * 4])
            else:
                stages[stage] = found
                said = line(stage, dtype, stages)
            print(said, flush=True)
            wrong |= "FAILED" in said or "MISSED" in said
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
