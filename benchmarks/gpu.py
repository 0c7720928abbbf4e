"""Speed and memory of every stage on one GPU, on random weights of a model's shape, against what the card can do.

    python benchmarks/gpu.py                                     Llama 3.1 8B's shape in bfloat16 and nf4, on a card
    python benchmarks/gpu.py --shape tiny --device cpu           the same in a minute on any machine: that it runs

| stage | what is timed | limit |
|---|---|---|
| sensitivity | forwards of the layers over 512 texts of 32 tokens, states kept by hooks | F |
| rope | RoPE influence `output`: every layer with both signs from there to the end, in float32 | F |
| lora_last, lora_all | training of LoRA on the last 30 % of layers (23-31 of 32) and on all, GARFA on the same layers | F |
| trainer_last, trainer_all | the same LoRA by Hugging Face's Trainer and PEFT, without GARFA | F |
| loglikelihood, answers | 5-shot questions with four choices; 8-shot answers of 256 tokens, batches of 64 | F; M |

F: operations of the run over the rate of a large product in the same dtype, measured here. M: bytes of weights and keys
over the rate at which a card reads its memory, measured here. A stage is a process of its own, so that its peak memory is
its own, and is run twice: the first run warms up. Training sides take turns in `benchmarks/training.py`, whose functions
these are. Targets: half of the limit for forwards and for lora_last, 1.5 times the Trainer.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import evaluation
import training

STAGES = ("sensitivity", "rope", "lora_last", "trainer_last", "lora_all", "trainer_all", "generation")
DTYPES = ("bfloat16", "nf4")
HALF = ("sensitivity", "lora_last", "loglikelihood")  # at least half of the limit
LEAST = {"lora_last": ("trainer_last", 1.5), "lora_all": ("trainer_all", 1.5)}  # times as fast as
GIB = 2**30


def shape_of(model) -> dict:
    """{layers, body (weights of linear maps a layer), head}: what operations a token follow from."""
    c = model.config
    head_dim = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    attention = 2 * (c.num_attention_heads + c.num_key_value_heads) * head_dim * c.hidden_size
    body = attention + 3 * c.hidden_size * c.intermediate_size
    return {"layers": c.num_hidden_layers, "body": body, "head": c.hidden_size * c.vocab_size}


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


def measure(stage: str, shape: str, dtype: str, device: str, scale: float, tokens: int) -> dict[str, dict]:
    """{stage: {tokens_s, share, limit, peak_gib}} of one stage, in this process."""
    import torch

    from colocate import devices

    if stage.startswith(("lora", "trainer")):
        found = {stage: train(stage, shape, dtype, device, tokens)}
    else:
        exact = {"bfloat16": "float32", "nf4": "nf4_float32"}
        model = training.load(shape, exact.get(dtype, dtype) if stage == "rope" else dtype, device)
        if stage == "generation":
            found = evaluation.throughput("colocate", shape, dtype, device, 64 if scale == 1 else 4, scale, model)
            if dtype == "nf4":  # its limit would have to count packed weights
                found = {name: {"tokens_s": one["tokens_s"]} for name, one in found.items()}
        else:
            found = {stage: {"sensitivity": sensitivity, "rope": rope}[stage](model, device, scale)}
            found[stage]["share"] = found[stage].pop("work") / training.matmul_rate(model.dtype, device)
    peak = devices.peak_memory_mib()["gpu" if device == "cuda" else "cpu"]
    for one in found.values():
        one["limit"] = one["tokens_s"] / one["share"] if one.get("share") else None
        one["peak_gib"] = peak / 1024
    if device == "cuda":
        torch.cuda.synchronize()
    return found


def card(device: str) -> str:
    """The machine's card in words."""
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else "CPU, one thread"


def table(found: dict[str, dict[str, dict]], shape: str, name: str) -> list[str]:
    """The Markdown table of {dtype: {stage: numbers}}, and the targets."""
    lines = [f"{shape}, random weights, on {name}", ""]
    lines += [
        "| stage | dtype | tokens/s | limit, tokens/s | share of the limit | peak GiB |",
        "|---|---|---|---|---|---|",
    ]
    for dtype, stages in found.items():
        for stage, one in stages.items():
            share, limit = (f"{one['share']:.0%}", f"{one['limit']:.0f}") if one.get("share") else ("-", "-")
            lines.append(f"| {stage} | {dtype} | {one['tokens_s']:.0f} | {limit} | {share} | {one['peak_gib']:.1f} |")
    lines.append("")
    for dtype, stages in found.items():
        for stage in HALF:
            if stages.get(stage, {}).get("share"):
                met = training.verdict(stages[stage]["share"] >= 0.5)
                lines.append(f"{stage}, {dtype}: {stages[stage]['share']:.0%} of the limit, target 50 %: {met}")
        for stage, (other, least) in LEAST.items():
            if stage in stages and other in stages:
                ratio = stages[stage]["tokens_s"] / stages[other]["tokens_s"]
                met = training.verdict(ratio >= least)
                lines.append(f"{stage}, {dtype}: {ratio:.2f} times the Trainer, target {least}: {met}")
    return lines


def in_a_process(stage: str, dtype: str, options) -> dict[str, dict]:
    command = [sys.executable, __file__, "--run", stage, dtype, "--shape", options.shape, "--device", options.device]
    command += ["--scale", str(options.scale), "--tokens", str(options.tokens)]
    done = subprocess.run(command, text=True, capture_output=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main(arguments: list[str] | None = None) -> None:
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
        return
    found = {dtype: {} for dtype in options.dtypes}
    for dtype in options.dtypes:
        for stage in options.stages:
            found[dtype] |= in_a_process(stage, dtype, options)
    print("\n".join(table(found, options.shape, card(options.device))))


if __name__ == "__main__":
    main()
