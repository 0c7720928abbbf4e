"""The bill before a run: jobs, tokens, GPU hours, wall time, disk and money by stage, arm and seed; what claims need.

    python -m colocate.bill --configfile config/config.yaml config/x.yaml      (make plan CONFIG="...")

No GPU, no weights: Snakemake says by a dry run which jobs are left, the config what each has to do (colocate.work), the
rates how long that takes (data/rates.yaml), and benchmark tables of earlier runs of the study correct them, job by job
(colocate.earlier). Good to a factor of about two before anything was measured. Queues, failures and people's time are
not in it.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from colocate import config as configuration
from colocate import files, needs, plan, settling, work
from colocate.earlier import Earlier
from colocate.errors import InputError
from colocate.prices import hourly

VARIABLE = "COLOCATE_JOBS"  # the file that the logger of a dry run writes the jobs to
DEFAULT = "config/config.yaml"  # which the Snakefile reads before any other
PAPER = 100  # US dollars: "cost" of rao2026 in data/published/numbers.csv, without breakdown or hardware
NOISE = ("Using workflow specific profile", "Config file ")  # of Snakemake's own start
ITEM_BYTES = 1500  # of one item of one evaluation, as parquet, prompt and answer included


@dataclass(frozen=True)
class Line:
    """One job of the bill."""

    rule: str
    stage: str
    job: dict[str, str]  # its wildcards
    tokens: float
    seconds: float
    gpu: bool
    cost: float


def lines(jobs: Iterable[dict], config: dict, logs: Path = Path("logs")) -> list[Line]:
    """The bill of jobs [{"rule", "wildcards"}] of a study's merged config."""
    before, prices = Earlier(config, logs), config["prices"]
    found = []
    for job in jobs:
        rule, wildcards = job["rule"], job["wildcards"]
        seconds = before.seconds(rule, wildcards)
        on_gpu = before.device == "cuda" and rule in plan.MODEL_RULES
        cost = seconds / 3600 * hourly(prices, on_gpu, config["threads"] if rule in plan.MODEL_RULES else 1)
        found.append(Line(rule, plan.stage_of(rule), wildcards, tokens(rule, config, wildcards), seconds, on_gpu, cost))
    return found


def tokens(rule: str, config: dict, wildcards: dict) -> float:
    """Tokens that go through the model in one job: read, trained on and written."""
    if rule not in plan.MODEL_RULES:
        return 0.0
    todo = work.of_job(rule, config, config["models"][wildcards["model"]], wildcards)
    return sum(part.tokens for part in todo) / len(todo)


def totals(bill: list[Line], key: Callable[[Line], object]) -> dict:
    """{key of a line: (jobs, tokens, seconds, GPU seconds, cost)}, in the order of first appearance."""
    sums: dict = {}
    for line in bill:
        before = sums.setdefault(key(line), (0, 0.0, 0.0, 0.0, 0.0))
        this = (1, line.tokens, line.seconds, line.seconds * line.gpu, line.cost)
        sums[key(line)] = tuple(a + b for a, b in zip(before, this, strict=True))
    return sums


def wall(bill: list[Line], cores: float, gpus: float) -> float:
    """Seconds until all is done, stage after stage: jobs share the slots, none is faster than its longest job."""
    seconds = 0.0
    for stage in dict.fromkeys(line.stage for line in bill):
        for on_gpu in (True, False):
            each = [line.seconds for line in bill if line.stage == stage and line.gpu == on_gpu]
            seconds += max(sum(each) / max(gpus if on_gpu else cores, 1), max(each, default=0.0))
    return seconds


def disk(bill: list[Line], config: dict) -> dict[str, float]:
    """{what: bytes} that the jobs leave on disk: models (as fetched and as prepared), adapters, evaluations."""
    kept = {"models": 0.0, "adapters": 0.0, "evaluations": 0.0}
    for line in bill:
        model = config["models"].get(line.job.get("model"))
        if line.rule in ("fetch_model", "prepare_model"):
            kept["models"] += plan.parameters(model["geometry"]) * 2
        elif line.rule == "train_arm":
            kept["adapters"] += 4 * needs.trained_parameters(config, line.job)
        elif line.rule == "evaluate_arm":
            kept["evaluations"] += work.items_of(config["benchmarks"][line.job["benchmark"]]) * ITEM_BYTES
    return {what: size for what, size in kept.items() if size}


def check_room(jobs: Iterable[dict], config: dict) -> None:
    """InputError where a disk is too small for what the jobs [{"rule", "wildcards"}] will leave on it."""
    sizes = disk(lines(jobs, config), config)
    models = sizes.pop("models", 0.0)
    files.check_room({"resources": models, "results": sum(sizes.values())})


# ---------------------------------------------------------------------------------------------------------------- text


def text(bill: list[Line], config: dict, cores: float, gpus: float) -> str:
    """The bill for people."""
    currency, on_gpu = config["prices"]["currency"], any(line.gpu for line in bill)
    device = plan.device_of(config)
    said = [f"The bill of study {config['study']}, models on {'GPUs' if device == 'cuda' else 'CPU, ' + device}"]
    if not bill:
        return "\n".join([*said, "  nothing is left to run", *settling.text(config, {})])
    bill = sorted(bill, key=lambda line: [*plan.STAGES, "statistics"].index(line.stage))
    said += _table("by stage", totals(bill, lambda line: line.stage), currency, total=True)
    arms = [line for line in bill if line.stage in ("train", "evaluate", "arm profiles")]
    said += _table("by arm, over its seeds", totals(arms, lambda line: line.job.get("arm", "-")), currency)
    said += _table("by seed", totals(arms, lambda line: f"seed {line.job.get('seed', '-')}"), currency)
    costs = sorted(totals(bill, lambda line: line.rule).items(), key=lambda item: -item[1][-1])
    whole = sum(line.cost for line in bill)
    most = ", ".join(f"{rule} {values[-1] / whole:.0%}" for rule, values in costs[:3] if whole)
    said.append(f"\nWhere the money goes: {most}")
    places = [f"{hours(wall(bill, cores, n))} on {n:g} {'GPU' if on_gpu else 'job'}{'s' * (n != 1)} at a time"
              for n in sorted({1.0, gpus if on_gpu else cores, 8.0})]  # fmt: skip
    if not on_gpu:
        places = [f"{hours(wall(bill, n, 0))} on {n:g} core{'s' * (n != 1)}" for n in sorted({1.0, cores, 8.0})]
    said.append(f"Wall time: {'; '.join(places)}")
    sizes = disk(bill, config)
    listed = ", ".join(f"{what} {size / 1e9:.3g} GB" for what, size in sizes.items())
    said.append(f"Disk: about {sum(sizes.values()) / 1e9:.3g} GB" + (f" ({listed})" if listed else ""))
    training = sum(line.cost for line in bill if line.stage == "train")
    said.append(
        f"Money: training alone {money(training)} {currency}, everything {money(whole)} {currency}; "
        f"the paper states {PAPER} US dollars in all, without a breakdown"
    )
    limit = config["budget"]["cost"]
    if limit:
        verdict = "more than" if whole > limit else "within"
        said.append(f"That is {verdict} budget.cost, {limit:g} {currency}, from which finished jobs are taken too")
    said += settling.text(config, _per_seed(bill))
    return "\n".join([*said, "", *_source(bill, config, device)])


def _per_seed(bill: list[Line]) -> dict[str, tuple[float, float]]:
    """{model: (hours, cost) of one more seed of all trained arms}, from the jobs of the bill."""
    found = {}
    for model in dict.fromkeys(line.job["model"] for line in bill if "model" in line.job):
        mine = [line for line in bill if line.job.get("model") == model and line.job.get("arm", "base") != "base"]
        seeds = {line.job["seed"] for line in mine if "seed" in line.job} or {""}
        found[model] = tuple(
            sum(values) / len(seeds)
            for values in zip(*((line.seconds / 3600, line.cost) for line in mine), strict=True)
        ) or (0.0, 0.0)
    return found


def _source(bill: list[Line], config: dict, device: str) -> list[str]:
    rules = {line.rule for line in bill}
    known = sorted(rule for rule in rules if plan.measured_seconds(Path("logs") / config["study"] / rule) is not None)
    machine = plan.machine_of(config, device)
    said = f"Rates: {machine.name} ({'measured' if machine.measured else 'not measured'})"
    return [said + (f"; corrected by earlier runs of {', '.join(known)}" if known else "")]


def _table(head: str, sums: dict, currency: str, total: bool = False) -> list[str]:
    """Rows of `totals` as aligned text, in the order of the data."""
    if total and len(sums) > 1:
        sums = sums | {"all": tuple(map(sum, zip(*sums.values(), strict=True)))}
    width = max([len(head), *(len(str(name)) for name in sums)])
    said = ["", f"{head:{width}}  {'jobs':>6}  {'tokens':>8}  {'hours':>8}  {'GPU hours':>9}  {currency:>9}"]
    for name, (n, count, seconds, gpu_seconds, cost) in sums.items():
        numbers = f"{n:>6}  {scaled(count):>8}  {seconds / 3600:>8.2f}  {gpu_seconds / 3600:>9.2f}  {money(cost):>9}"
        said.append(f"{name!s:{width}}  {numbers}")
    return said


def scaled(count: float) -> str:
    """12.3M for 12 300 000 tokens."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return f"{count:.0f}"


def hours(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def money(value: float) -> str:
    return f"{value:.2f}" if value >= 1 else f"{value:.2g}"


# ---------------------------------------------------------------------------------------------------------------- jobs


def merged(files: list[str], device: str | None = None) -> dict:
    """The study's config out of its files, as Snakemake merges them: the default study first, named or not.

    InputError for one that is not there.
    """
    config: dict = {}
    named = {Path(file).resolve() for file in files}
    unnamed = Path(DEFAULT).is_file() and Path(DEFAULT).resolve() not in named
    for file in [*[DEFAULT] * unnamed, *files]:
        try:
            read = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise InputError(f"{file}: {error}") from None
        _update(config, read or {})
    return configuration.complete(config | ({"device": device} if device else {}))


def _update(config: dict, overlay: dict) -> None:
    for key, value in overlay.items():
        if isinstance(value, dict) and isinstance(config.get(key), dict):
            _update(config[key], value)
        else:
            config[key] = value


def ask_snakemake(files: list[str], device: str | None, everything: bool) -> tuple[str, list[dict]]:
    """What the start of a run prints, and the jobs that it would run (or, for `everything`, all jobs of the study)."""
    with tempfile.TemporaryDirectory() as folder:
        list_file = Path(folder) / "jobs.jsonl"
        command = [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1", "--configfile", *files]
        command += ["--forceall"] * everything + (["--config", f"device={device}"] if device else [])
        environment = os.environ | {VARIABLE: str(list_file)}
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if done.returncode:
            raise InputError(done.stdout.strip() or "snakemake --dry-run failed without a word")
        written = list_file.read_text(encoding="utf-8").splitlines() if list_file.exists() else []
    jobs = [json.loads(line) for line in written]
    place = {rule: number for number, rule in enumerate(plan.RULES)}
    jobs.sort(key=lambda job: (place[job["rule"]], sorted(job["wildcards"].items())))
    start = [line for line in done.stdout.partition("\nReasons:")[0].splitlines() if not line.startswith(NOISE)]
    return "\n".join(start), jobs


def _next(jobs: list[dict], config: dict, chosen: argparse.Namespace) -> str:
    """What to do about the bill: run this very study."""
    if not jobs:
        return f"Open reports/{config['study']}.html in a browser"
    how = "--cores all"
    if plan.device_of(config) == "cuda":
        how = f"--profile profiles/gpu --resources gpu={chosen.gpus:g}"
    elif chosen.device:
        how += f" --config device={chosen.device}"
    through = "  (through SLURM: --profile slurm)" if "profile" in how else ""
    return f"To run it: snakemake {how} --configfile {shlex.join(chosen.configfile)}{through}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m colocate.bill", description=__doc__.split("\n")[0])
    parser.add_argument("--configfile", nargs="+", default=["config/config.yaml"], help="as for snakemake")
    parser.add_argument("--gpus", type=float, default=1.0, help="cards that run jobs at the same time")
    parser.add_argument("--cores", type=float, default=float(os.cpu_count() or 1), help="CPU jobs at the same time")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="where models will run, if not as the config says")
    parser.add_argument("--all", action="store_true", help="the whole study, finished jobs too")
    chosen = parser.parse_args(arguments)
    try:
        config = merged(chosen.configfile, chosen.device)
        said, jobs = ask_snakemake(chosen.configfile, chosen.device, chosen.all)
        print(said.strip(), end="\n\n")
        print(text(lines(jobs, config), config, chosen.cores, chosen.gpus))
        print(f"\n{_next(jobs, config, chosen)}")
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
