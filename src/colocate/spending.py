"""The budget of a study: a job of a model starts only if what was spent, what runs and it cost no more than the limit.

    spent   run records of finished jobs, each at the config's prices
    runs    the estimate of every job that is running; each holds a lock on a note of its own, so that the note of a job
            that was killed counts no more
    it      its own estimate: by rule, model and kind (benchmark, profile, arm), which the name of its log says

The workflow says all this in the variable COLOCATE_BUDGET (`describe`), as one number a kind however many jobs there
are; without it nothing is checked. Light, and it knows no rates: jobs import it, and a new rate must not rerun them.
"""

import contextlib
import fcntl
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from colocate import prices as pricing
from colocate.errors import InputError

VARIABLE = "COLOCATE_BUDGET"


def describe(study: str, limit: float, prices: dict, expected: dict[str, dict], models: list[str]) -> str:
    """The variable's value. expected: {rule: {model: {kind: cost of one job}}}, of earlier.Earlier.costs.

    models: whose records count.
    """
    folders = [f"results/{study}", *(f"resources/models/{model}.run.json" for model in models)]
    return json.dumps(
        {
            "limit": limit,
            "prices": prices,
            "expected": expected,
            "records": folders,
            "notes": f"scratch/{study}/.budget",
            "logs": f"logs/{study}",
        }
    )


def expected(budget: dict, rule: str, log: Path | None) -> float | None:
    """Estimate of the job with this log file, logs/{study}/{rule}/{model}/.../*.log; None for rules without one.

    A job whose log does not say model or kind counts as the most expensive one that it can be.
    """
    models = budget["expected"].get(rule)
    if models is None:
        return None
    below = Path(budget["logs"]) / rule
    parts = log.relative_to(below).with_suffix("").parts if log is not None and log.is_relative_to(below) else ()
    kinds = models.get(parts[0]) if parts else None
    if kinds is None:
        return max(kinds[""] for kinds in models.values())
    return next((kinds[part] for part in reversed(parts[1:]) if part in kinds), kinds[""])


def spent(folders: list[str], prices: dict) -> float:
    """Cost of all finished jobs whose run records lie in these folders (or are these files)."""
    total = 0.0
    for folder in map(Path, folders):
        for path in [folder] if folder.is_file() else sorted(folder.rglob("*.run.json")):
            try:
                total += pricing.cost(json.loads(path.read_text(encoding="utf-8")), prices)
            except (OSError, ValueError, KeyError):  # just being replaced, or no run record
                continue
    return total


@contextlib.contextmanager
def within(rule: str, log: Path | None = None) -> Iterator[None]:
    """Hold room for one job of `rule` in the budget as long as it runs. InputError if there is not enough."""
    said = os.environ.get(VARIABLE)
    budget = json.loads(said) if said else {}
    this = expected(budget, rule, log) if budget else None
    if this is None:
        yield
        return
    folder = Path(budget["notes"])
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / f"{uuid.uuid4().hex}.json"
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done, running = spent(budget["records"], budget["prices"]), _running(folder)
        if done + running + this > budget["limit"]:
            currency = budget["prices"]["currency"]
            raise InputError(
                f"budget: finished jobs cost {done:.4g} {currency}, running ones about {running:.4g}, this one about "
                f"{this:.4g}: more than budget.cost {budget['limit']:g}. What is finished is kept; raise "
                "budget.cost, or select less"
            )
        held = note.open("w")
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write(str(this))
        held.flush()
    try:
        yield
    finally:
        note.unlink(missing_ok=True)
        held.close()


def _running(folder: Path) -> float:
    """Estimates of the jobs that hold their notes; notes of the dead are taken away."""
    total = 0.0
    for path in folder.glob("*.json"):
        with contextlib.suppress(OSError, ValueError), path.open("r+") as note:
            try:
                fcntl.flock(note, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                total += float(note.read())
            else:
                path.unlink(missing_ok=True)
    return total
