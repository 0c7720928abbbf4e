"""Words and numbers for people: durations, wildcards, jobs, the reason in a log file. No Snakemake in here."""

import itertools
import math
import re
import sys
import textwrap
from pathlib import Path

from colocate import config_files

RESET, BOLD, RED, GREEN, YELLOW, FAINT = "\033[0m", "\033[1m", "\033[31m", "\033[32m", "\033[33m", "\033[2m"
LOG_LINES = 12
NOT_AGAIN = ("-F", "--forceall", "-n", "--dry-run", "--dryrun")
BAD_CONFIG = ("WorkflowError:\nConfig file is not valid", "WorkflowError:\nConfig file must be given")


def duration(seconds: float) -> str:
    """An elapsed time: 0.4 s, 42 s, 1 min 12 s, 2 h 5 min, 3 d 4 h."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    seconds = round(seconds)
    for large, unit, small, rest in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= large:
            whole, part = divmod(seconds, large)
            return f"{whole} {unit}" + (f" {part // small} {rest}" if part // small else "")
    return f"{seconds} s"


def about(seconds: float) -> str:
    """A time that is only estimated, rounded to what an estimate can tell: about 20 s, about 18 min, about 5.5 h."""
    if seconds < 10:
        return "under 10 s"
    if seconds < 90:
        return f"about {math.ceil(seconds / 10) * 10} s"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} min"
    if seconds < 36 * 3600:
        return f"about {round(seconds / 1800) / 2:g} h"
    return f"about {round(seconds / 43200) / 2:g} d"


def wildcards(values: dict[str, str], hidden: tuple[str, ...] = ()) -> str:
    """The wildcards of a job as words: names as they are, numbers with what they count ("colocated seed 0")."""
    return " ".join(
        f"{name} {value}" if value.isdigit() else value for name, value in values.items() if name not in hidden
    )


def counts(jobs: dict[str, int], width: int) -> list[str]:
    """{rule: n} as lines such as "train_arm 14, evaluate_arm 90"; a rule and its number stay together."""
    joined = ", ".join(f"{rule}\N{NO-BREAK SPACE}{n}" for rule, n in jobs.items())
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in textwrap.wrap(joined, width)]


def plural(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def reason(logs: list[str]) -> tuple[list[str], str | None]:
    """Why a job failed: the lines from its last "ERROR:" on, or its last lines, and the file they are from.

    `logs`: the job's own log first, then those of the cluster. The first that says anything counts.
    """
    for name in logs:
        try:
            lines = Path(name).read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
        except OSError:
            continue
        marks = [i for i, line in enumerate(lines) if line.startswith("ERROR:")]
        if marks:
            return lines[marks[-1] :][:LOG_LINES], name
        if lines:
            return lines[-LOG_LINES:], name
    return [], next((name for name in logs if Path(name).exists()), None)


def refusal(message: str) -> list[str]:
    """The lines of an error that the workflow itself raised while it was parsed, without the frames around them; and
    what is wrong with a config file that Snakemake cannot read. Empty for any other error."""
    if message.startswith(BAD_CONFIG):
        return [problem for file in _config_files(sys.argv) if (problem := config_files.problem_of(file))]
    head, _, rest = message.partition("\n")
    if not re.match(r"WorkflowError in file .*common\.smk", head):
        return []
    return [line for line in rest.splitlines() if line.strip() and not re.match(r'  File ".*", line \d+', line)]


def _config_files(words: list[str]) -> list[str]:
    """What follows --configfile(s) on a command line, up to the next option; the default config without any."""
    options = ("--configfile", "--configfiles")
    start = next((i for i, word in enumerate(words) if word.split("=")[0] in options), None)
    if start is None:
        return ["config/config.yaml"]
    first = words[start].split("=", 1)[1:]
    return [*first, *itertools.takewhile(lambda word: not word.startswith("-"), words[start + 1 :])]


def command(line: str) -> str:
    """A command line that goes on with a run, or does what a dry run showed: without the program's folder, without what
    forces finished jobs, without the wish to see only."""
    program, *words = line.split(" ")
    name = Path(program).name.replace("__main__.py", "snakemake")
    return " ".join([name, *(word for word in words if word not in NOT_AGAIN)])


def without_targets(line: str, targets: set[str]) -> str:
    """The same command for the whole study: without the stages that it asks for."""
    return " ".join(word for word in line.split(" ") if word not in {*targets, "--"})


def annex(line: str, path: str) -> str:
    """The command that writes Snakemake's own report on a run: with its config, and nothing else it was given."""
    kept, keeping = [], False
    for word in line.split(" ")[1:]:
        if word.startswith("-"):
            keeping = word.split("=")[0] in ("--configfile", "--configfiles", "--config", "-C")
        kept += [word] * keeping
    return " ".join(["snakemake", *kept, "--report", path])


def short(path: str) -> str:
    """A path relative to the current folder, if it is below it."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path
