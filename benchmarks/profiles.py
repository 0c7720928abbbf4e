"""Speed and memory of the layer profiles on SmolLM2, against the loops that one would write first. CPU, one thread.

    python benchmarks/profiles.py [--repeats 3] [--pairs 40] [--no-thousand] [MODEL_FOLDER]

Both sides of a comparison run in turn, in the same process, on the same model and texts; of the repeats the fastest
counts. Processor seconds are the measure, since other work on the machine changes them least; wall seconds stand
beside. Exit status 1 if a target is missed. Targets and what is compared: benchmarks/README.md.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "resources/models/smollm2-135m"
WINDOWS, TOKENS, FIRST, LOG_ALPHA = 2, 64, 16, 0.693  # of the RoPE profile; FIRST: the first position that counts

import torch  # noqa: E402
from torch.nn import functional  # noqa: E402

from colocate import models, pairs  # noqa: E402
from colocate.profiles import compute  # noqa: E402
from colocate.profiles.capture import pooled_states  # noqa: E402
from colocate.profiles.rope_influence import Settings, on_output  # noqa: E402
from colocate.profiles.sensitivity import distance  # noqa: E402
from colocate.profiles.windows import windows  # noqa: E402
from colocate.rope import rope_scaled  # noqa: E402


def timed(work: Callable) -> tuple[float, float]:
    """Processor and wall seconds."""
    processor, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - processor, time.perf_counter() - wall


def compare(sides: dict[str, Callable], repeats: int) -> dict[str, tuple[float, float]]:
    """The fastest of `repeats` runs of each side, the sides in turn."""
    runs = [{name: timed(work) for name, work in sides.items()} for _ in range(repeats)]
    return {name: tuple(min(run[name][clock] for run in runs) for clock in (0, 1)) for name in sides}


def report(title: str, found: dict[str, tuple[float, float]], targets: dict[str, float]) -> bool:
    """Print a comparison; `targets`: side -> how many times the processor seconds of `ours` it must take."""
    ours, passed = found["ours"][0], True
    print(f"\n{title}")
    for name, (processor, wall) in found.items():
        line = f"  {name:<28}{processor:8.1f} s processor {wall:8.1f} s wall"
        if name in targets:
            good = processor >= targets[name] * ours
            passed &= good
            line += f"   {processor / ours:5.2f}x, target {targets[name]}x: {'met' if good else 'MISSED'}"
        print(line, flush=True)
    return passed


# --- sensitivity ------------------------------------------------------------------------------------------------------


@torch.no_grad()
def pair_by_pair(model, tokenizer, rows: list, pool: str) -> torch.Tensor:
    """The published formula as a loop: one text at a time, one pool, all hidden states from the model itself."""
    first = {"all": 0, "skip_first": 1}.get(pool)
    total = 0
    for row in rows:
        pooled = []
        for answer in (row.correct, row.incorrect):
            ids = tokenizer(row.prompt + answer, return_tensors="pt").input_ids
            start = len(tokenizer(row.prompt).input_ids) if first is None else first
            states = model(ids, output_hidden_states=True).hidden_states[1:]
            pooled.append(torch.stack([layer[0, start:].float().mean(dim=0) for layer in states]))
        total = total + 1 - torch.cosine_similarity(*pooled, dim=1)
    return total / len(rows)


def batched(model, tokenizer, rows: list):
    """The same distances, of all pools and forms, from one pass over all texts."""
    texts = [(row.prompt, answer) for row in rows for answer in (row.correct, row.incorrect)]
    states = pooled_states(model, tokenizer, texts, 4096)
    return distance(states[0::2], states[1::2]).mean(axis=0)


def sensitivity(model, tokenizer, rows: list, repeats: int) -> bool:
    def loops(*pools):
        return lambda: [pair_by_pair(model, tokenizer, rows, pool) for pool in pools]

    sides = {
        "ours": lambda: batched(model, tokenizer, rows),
        "pair by pair, one pool": loops("all"),
        "pair by pair, three pools": loops("all", "skip_first", "answer"),
    }
    title = f"Sensitivity, {len(rows)} pairs, {str(model.dtype).removeprefix('torch.')}"
    targets = {"pair by pair, one pool": 3, "pair by pair, three pools": 8}
    return report(title, compare(sides, repeats), targets)


# --- RoPE influence ---------------------------------------------------------------------------------------------------


def kl(base: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Mean over positions of KL(p || q) from log p and the logits of q, float64 softmax."""
    log_q = logits[:, FIRST:].double().log_softmax(-1)
    return functional.kl_div(log_q, base, log_target=True, reduction="none").sum(-1).mean(-1)


@torch.no_grad()
def whole_forwards(model, ids: torch.Tensor, together: bool) -> list:
    """Every layer changed, the whole model run again: both signs in one batch, or each text and sign by itself."""
    found = []
    for text in [ids] if together else ids.split(1):
        base = model(text, use_cache=False).logits[:, FIRST:].double().log_softmax(-1)
        for layer in range(len(models.decoder_layers(model))):
            signs = torch.tensor([LOG_ALPHA, -LOG_ALPHA]).repeat_interleave(len(text)).unsqueeze(1)
            for part in [signs] if together else signs.split(1):
                with rope_scaled(model, layer, part):
                    logits = model(text.repeat(len(part) // len(text), 1), use_cache=False).logits
                found += [kl(base, chunk) for chunk in logits.split(len(text))]
    return found


def rope(model, tokenizer, texts: list, repeats: int) -> bool:
    ids = torch.tensor([window.ids for window in windows(tokenizer, texts, TOKENS, WINDOWS)])
    chosen = Settings(log_alpha=LOG_ALPHA, text_tokens=TOKENS)

    @torch.no_grad()
    def suffixes():
        on_output(model, ids, 0, chosen)

    sides = {
        "ours": suffixes,
        "whole forwards, same batch": lambda: whole_forwards(model, ids, together=True),
        "whole forwards, text by text": lambda: whole_forwards(model, ids, together=False),
    }
    title = f"RoPE influence `output`, {len(ids)} windows of {TOKENS} tokens, float32"
    targets = {"whole forwards, same batch": 1.4, "whole forwards, text by text": 2.2}
    return report(title, compare(sides, repeats), targets)


# --- memory, and a thousand pairs -------------------------------------------------------------------------------------


def made_pairs(n: int) -> list[pairs.Pair]:
    """n sums: as long as the hand-made pairs, so that their number alone changes."""
    return [
        pairs.Pair(
            f"sum-{i}",
            "arithmetic",
            "en",
            f"The sum of {i} and {i + 7} is equal to",
            *(f" {2 * i + j}" for j in (7, 8, 9)),
        )
        for i in range(n)
    ]


def child(task: str, n: int, folder: Path) -> None:
    """One measurement in a process of its own: prints its peak memory in MiB."""
    torch.set_num_threads(1)
    model = models.load_model(folder, models.resolve_dtype("auto", "cpu", "float32"), "cpu")
    tokenizer = models.load_tokenizer(folder)
    compute(task, model, tokenizer, {"seed": 0}, {"pairs": made_pairs(n), "paraphrases": []})
    print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def in_child(task: str, n: int, folder: Path) -> tuple[float, float, float]:
    """Peak MiB, processor and wall seconds of `child`, the loading of libraries and model included."""
    before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, __file__, str(folder), "--child", task, str(n)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return float(done.stdout.rpartition("PEAK")[2]), processor, time.perf_counter() - wall


def memory(folder: Path) -> bool:
    few, many = (in_child("input_output_cosine", n, folder)[0] for n in (64, 512))
    good = many < 1.1 * few
    print(
        f"\nMemory, states streamed: peak {few:.0f} MiB with 64 texts, {many:.0f} MiB with 512: "
        f"{'bounded by the batch' if good else 'GROWS'}",
        flush=True,
    )
    return good


def thousand(folder: Path) -> bool:
    peak, processor, wall = in_child("sensitivity", 1000, folder)
    good = wall < 180
    print(
        f"\nSensitivity of 1,000 pairs, all variants, one thread: {wall:.0f} s wall, {processor:.0f} s processor, "
        f"peak {peak:.0f} MiB, target 180 s: {'met' if good else 'MISSED'}",
        flush=True,
    )
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=MODEL, help="prepared model (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="of the sensitivity; RoPE runs twice at most")
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--no-thousand", action="store_true", help="leave out the 1,000 pairs")
    parser.add_argument("--child", nargs=2, metavar=("METRIC", "N"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child[0], int(given.child[1]), given.folder)
        return
    torch.set_num_threads(1)
    tokenizer = models.load_tokenizer(given.folder)
    rows = pairs.read_pairs(ROOT / "data/pairs/tasks.jsonl")[: given.pairs]
    texts = pairs.read_texts(ROOT / "data/pairs/texts.jsonl")
    half = models.load_model(given.folder, models.resolve_dtype("auto", "cpu", "float32"), "cpu")
    passed = [sensitivity(half, tokenizer, rows, given.repeats)]
    del half
    model = models.load_model(given.folder, "float32", "cpu")
    passed.append(rope(model, tokenizer, texts, min(2, given.repeats)))
    del model
    passed.append(memory(given.folder))
    if not given.no_thousand:
        passed.append(thousand(given.folder))
    sys.exit(not all(passed))


if __name__ == "__main__":
    main()
