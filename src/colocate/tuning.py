"""Learning rates of each arm, chosen on the validation split, so that no arm loses for its step size.

Every pair of rates of a small grid is tried with a short training; the pair with the lowest held-out loss on validate
is the arm's. A choice at the edge of the grid is flagged: a better rate may lie outside it. An arm whose own entry
names a rate keeps that one.
"""

from itertools import product

from colocate.errors import InputError

RATES = ("lr_lora", "lr_garfa")
UNUSED = 0.0  # the rate of a part that an arm does not have


def uses(entry: dict) -> dict[str, bool]:
    """Which of RATES an arm with this config entry trains with."""
    return {"lr_lora": "lora" in entry, "lr_garfa": "garfa" in entry or "temperature" in entry}


def grid(entry: dict, training: dict) -> list[dict]:
    """Pairs {"lr_lora", "lr_garfa"} to try for an arm's config entry, [] where nothing is tuned.

    `training`: lr_lora and lr_garfa, the rates of what is not tuned, and `tuning` with a list for each.
    """
    used = uses(entry)
    tried = {name: training["tuning"][name] for name in RATES if used[name] and name not in entry}
    if not any(tried.values()):
        return []
    lists = [tried.get(name) or [entry.get(name, training[name]) if used[name] else UNUSED] for name in RATES]
    return [dict(zip(RATES, pair, strict=True)) for pair in product(*lists)]


def choose(arm: str, tries: list[dict], seed: int) -> dict:
    """{"grid", "chosen", "at_edge", "seed", "split"} out of what `colocate.training.tune` returned for each pair.

    grid: lr_lora, lr_garfa and loss of every try (null where training diverged, with why); chosen: the index of the
    lowest loss; at_edge: names of the rates of which it has the lowest or highest value tried.
    InputError where every try diverged.
    """
    kept = [{name: one[name] for name in (*RATES, "loss", "why") if name in one} for one in tries]
    finite = [index for index, one in enumerate(kept) if one["loss"] is not None]
    if not finite:
        rates = ", ".join(f"{one['lr_lora']:g} and {one['lr_garfa']:g}" for one in kept)
        raise InputError(f"training.tuning: arm {arm} diverged with every pair of rates tried ({rates}): lower them")
    best = min(finite, key=lambda index: kept[index]["loss"])
    values = {name: sorted({one[name] for one in kept}) for name in RATES}
    at_edge = [
        name for name in RATES if len(values[name]) > 1 and kept[best][name] in (values[name][0], values[name][-1])
    ]
    return {"grid": kept, "chosen": best, "at_edge": at_edge, "seed": seed, "split": "validate"}
