"""What of a study is done, what will run, and why, as a table that a person can read: arms x seeds x stages.

    arm         seed 0: resolve  train  evaluate    seeds 1-4: resolve  train  evaluate
    base                -        -      done                   -        -      -
    colocated           done     run    6 run                  new ...

A cell counts jobs: "done", "2 run", "2 run, 4 done", or "-" where there is none. Seeds, arms and models that say the
same share a column, a row and a block, so that a wide study stays readable. Below: the stages that are not of an arm,
and the reasons, each with the jobs that have it. Reasons are Snakemake's, in plain words.

Only light imports: the Snakefile and the logger use this.
"""

import ast
import json
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from colocate import plan

# Stages of an arm, in the order of the data.
STAGES = {
    "resolve_arm": "resolve",
    "train_arm": "train",
    "evaluate_arm": "evaluate",
    "profile_arm": "measure",
    "measure_drift": "drift",
}
MOST_ROWS, MOST_REASONS, MOST_NAMES, MOST_BLOCKS = 12, 8, 3, 2
WIDTH = 110
FOLLOWS = "follows from the jobs above"
NEW = "new"


@dataclass(frozen=True)
class Planned:
    """One job of a run. `why`: plain words, empty where the job is done and stays as it is."""

    rule: str
    wildcards: Mapping[str, str] = field(default_factory=dict)
    why: str = ""


_watched = []


def watch(workflow) -> None:
    """Remember the workflow that is parsed: the logger asks for its jobs, in the same process, once they are known."""
    _watched[:] = [workflow]


def watched() -> list[Planned]:
    """The jobs of the watched workflow, those that are done included; [] where there is none."""
    dag = getattr(_watched[0], "dag", None) if _watched else None
    return planned(dag) if dag is not None else []


def planned(dag) -> list[Planned]:
    """Every job of Snakemake's DAG that does something."""
    return [
        Planned(job.rule.name, dict(job.wildcards_dict), words(dag.reason(job), job) if dag.needrun(job) else "")
        for job in list(dag.jobs)
        if not job.is_norun
    ]


# ------------------------------------------------------------------------------------------------------------- reasons


def words(reason, job) -> str:
    """One of Snakemake's reasons in plain words, such as "setting changed: training.clip"."""
    missing = sorted(map(str, reason.missing_output))
    if reason.forced:
        return "asked for"
    if reason.incomplete_output:
        return "was interrupted"
    if missing:
        if not any(Path(name).exists() for name in job.output):
            return NEW
        return "missing output: " + _names(name.rsplit("/", 1)[-1] for name in missing)
    if reason.params_changed:
        return changed(reason.params_changed.only_old, reason.params_changed.only_new)
    if reason.code_changed:
        return "command changed"
    own = sorted(map(str, reason.updated_input - reason.updated_input_run))
    if own:
        return "input changed: " + _names(own)
    return "other inputs" if reason.input_changed else FOLLOWS


def changed(before: Iterable[str], now: Iterable[str]) -> str:
    """What differs between the recorded `params` of a job and those of today: settings, code or packages."""
    (settings, code, packages), (new_settings, new_code, new_packages) = _kinds(before), _kinds(now)
    parts = []
    if settings is not None and new_settings is not None:
        parts.append("setting changed: " + _names(_differing(settings, new_settings, "")))
    if code or new_code:
        parts.append("code changed")
    if packages != new_packages:
        names = sorted({item.split("==")[0] for item in packages ^ new_packages})
        parts.append("package changed: " + _names(names))
    return "; ".join(parts) or "other settings"


def _kinds(params: Iterable[str]) -> tuple[dict | None, bool, set[str]]:
    """The three strings of `params`, told apart: settings as a dict, whether there is a code digest, packages."""
    settings, code, packages = None, False, set()
    for text in params:
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            value = text
        if str(value).startswith("{"):
            settings = json.loads(value)
        elif str(value).startswith("python=="):
            packages = set(value.split())
        else:
            code = True
    return settings, code, packages


def _differing(before, now, path: str) -> list[str]:
    """Dotted names of the settings that differ."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return [path] if before != now else []
    return [
        name
        for key in sorted(before.keys() | now.keys())
        for name in (
            _differing(before[key], now[key], f"{path}{'.' if path else ''}{key}")
            if key in before and key in now
            else [f"{path}{'.' if path else ''}{key}"]
        )
    ]


# --------------------------------------------------------------------------------------------------------------- table


def table(jobs: Iterable[Planned], config: dict) -> str:
    """The table of a run's jobs; `config`: the study's merged config, for the order of models and arms."""
    jobs = list(jobs)
    select = config.get("select", {})
    blocks = defaultdict(list)
    for model in _ordered({job.wildcards["model"] for job in jobs if _of_arm(job)}, select.get("models", [])):
        mine = [job for job in jobs if _of_arm(job) and job.wildcards["model"] == model]
        blocks[tuple(_block(mine, select.get("arms", [])))].append(model)
    lines = []
    for block, models in list(blocks.items())[:MOST_BLOCKS]:
        lines += ([f"{_names(models)}:"] if len(blocks) > 1 or len(models) > 1 else []) + list(block)
    others = [model for models in list(blocks.values())[MOST_BLOCKS:] for model in models]
    lines += [f"... and in other ways: {_names(others)}"] if others else []
    rest = Counter((job.rule, bool(job.why)) for job in jobs if not _of_arm(job))
    waiting = plan.ordered({rule: n for (rule, runs), n in rest.items() if runs})
    finished = sum(n for (_, runs), n in rest.items() if not runs)
    if waiting:
        lines += _wrapped(f"besides: {_counts(waiting)}" + (f"; {finished} done" if finished else ""))
    return "\n".join(lines + _reasons(jobs))


def _of_arm(job: Planned) -> bool:
    return job.rule in STAGES and {"model", "arm", "seed"} <= job.wildcards.keys()


def _block(jobs: list[Planned], order: list[str]) -> list[str]:
    """Header and rows of one model."""
    cells = defaultdict(Counter)
    for job in jobs:
        cells[job.wildcards["arm"], int(job.wildcards["seed"]), job.rule][bool(job.why)] += 1
    stages = [rule for rule in STAGES if any(rule == found for _, _, found in cells)]
    arms, seeds = _ordered({arm for arm, _, _ in cells}, order), sorted({seed for _, seed, _ in cells})
    columns = defaultdict(list)  # what all arms but base say of a seed: the seeds that say it; base has seed 0 alone
    for seed in seeds:
        said = tuple(_cell(cells[arm, seed, rule]) for arm in arms if arm != "base" for rule in stages)
        columns[said].append(seed)
    groups = list(columns.values())
    rows = defaultdict(list)
    for arm in arms:
        shown = [0 if arm == "base" and 0 in group else group[0] for group in groups]
        rows[tuple(_cell(cells[arm, seed, rule]) for seed in shown for rule in stages)].append(arm)
    header = [STAGES[rule] for _ in groups for rule in stages]
    body = [(_names(names, 1 + (len(names) == 2)), *row) for row, names in rows.items()]
    left_out = body[MOST_ROWS:]
    body = body[:MOST_ROWS]
    widths = [max(len(row[i]) for row in [("arm", *header), *body]) for i in range(len(header) + 1)]
    over = [" " * widths[0]]
    for number, group in enumerate(groups):
        span = widths[1 + number * len(stages) : 1 + (number + 1) * len(stages)]
        over.append(_seeds(group).ljust(sum(span) + 2 * (len(span) - 1)))
    lines = ["  ".join(over)]
    lines += [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True))
        for row in [("arm", *header), *body]
    ]
    return [line.rstrip() for line in lines] + ([f"... and {len(left_out)} more rows"] if left_out else [])


def _cell(counts: Counter) -> str:
    runs, done = counts[True], counts[False]
    if not runs:
        return "done" if done else "-"
    shown = "run" if runs == 1 else f"{runs} run"
    return f"{shown}, {done} done" if done else shown


def _reasons(jobs: list[Planned]) -> list[str]:
    """Lines "why  reason: jobs", the reasons that come first in the run first."""
    found = defaultdict(Counter)
    for job in jobs:
        if job.why:
            found[job.why][job.rule] += 1
    order = sorted(found, key=lambda why: (why == FOLLOWS, why == NEW))
    extra = len(order) - MOST_REASONS
    lines = [line for why in order[:MOST_REASONS] for line in _wrapped(f"  {why}: {_what(why, found[why])}")]
    lines += [f"  ... and {extra} more reasons"] if extra > 0 else []
    return ["why:", *lines] if lines else ["Nothing to run: all is done."]


def _what(why: str, jobs: dict[str, int]) -> str:
    """The jobs with a reason; of those that a whole study can have, the number is enough."""
    return f"jobs {sum(jobs.values())}" if why in (NEW, FOLLOWS) else _counts(plan.ordered(jobs))


def _counts(jobs: dict[str, int]) -> str:
    return ", ".join(f"{rule} {n}" for rule, n in jobs.items())


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(line, WIDTH, subsequent_indent="    ")


def _seeds(seeds: list[int]) -> str:
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    whole = seeds == list(range(seeds[0], seeds[-1] + 1))
    return f"seeds {seeds[0]}-{seeds[-1]}" if whole else "seeds " + _names(map(str, seeds))


def _names(names: Iterable[str], most: int = MOST_NAMES) -> str:
    """At most so many names, and how many more."""
    names = list(names)
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _ordered(names: set[str], order: list[str]) -> list[str]:
    return sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))
