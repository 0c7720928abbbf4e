"""Whether a study fits on cards, before anything is loaded; where it does not: which job, and with what it would.

Light, as colocate.needs, whose estimates these are.
"""

import copy

from colocate import needs

CONTEXT = 700  # MiB of a card that torch does not count: context, kernels
# What can be made smaller, in the order in which it is tried: what it is called, how to set it, values.
SMALLER = {
    "train": ("training.max_length", ("training", "max_length"), (384, 256, 192, 128)),
    "evaluate": ("evaluation.batch_tokens", ("evaluation", "batch_tokens"), (8192, 4096, 2048, 1024)),
}


def refusal(config: dict, card_mib: float) -> str:
    """Why a study does not fit on cards of `card_mib` MiB, as many of them a job as the model says; empty if it does.

    An evaluation's batch becomes smaller by itself (evaluation.batch_tokens), so it is asked with the smallest.
    """
    for name in config["select"]["models"]:
        room = config["models"][name].get("gpus", 1) * (card_mib - CONTEXT)
        for rule, job in _kinds(config, name):
            smallest = changed_to(config, SMALLER["evaluate"][1], SMALLER["evaluate"][2][-1])
            needed = needs.memory(rule, smallest if rule == "evaluate_arm" else config, job).gpu_mib
            if needed > room:
                return (
                    f"{rule} of {' '.join(job.values())}: needs {needed / 1024:.1f} GiB, the card has "
                    f"{room / 1024:.1f} GiB free for it; try {_remedy(rule, config, job, room)}"
                )
    return ""


def _kinds(config: dict, model: str) -> list[tuple[str, dict]]:
    """One job of each kind that runs the model."""
    jobs = [("profile_layers", {"model": model, "profile": profile}) for profile in config["select"]["profiles"]]
    arms = [arm for arm in config["select"]["arms"] if model in config["arms"][arm].get("models", [model])]
    jobs += [("train_arm", {"model": model, "arm": arm}) for arm in arms if arm != "base"]
    return jobs + [("evaluate_arm", {"model": model, "benchmark": one}) for one in config["select"]["benchmarks"]]


def _remedy(rule: str, config: dict, job: dict, room: float) -> str:
    """The first smaller setting with which a job fits."""
    changes = []
    if rule == "train_arm":
        key, path, values = SMALLER["train"]
        changes += [(f"{key}: {value}", changed_to(config, path, value)) for value in values]
    if "profile" in job:
        path = ("profiles", job["profile"], "batch_tokens")
        changes += [(f"{'.'.join(path)}: {n}", changed_to(config, path, n)) for n in (2048, 1024, 512, 256)]
    path = ("models", job["model"], "dtype")
    smaller = ("nf4",) if rule == "profile_layers" and needs.exact(rule, config, job) else ("bfloat16", "nf4")
    changes += [(f"{'.'.join(path)}: {dtype}", changed_to(config, path, dtype)) for dtype in smaller]
    for said, changed in changes:
        if needs.memory(rule, changed, job).gpu_mib <= room:
            return said
    return "a larger card, more cards a job (models.*.gpus), or a smaller model"


def changed_to(config: dict, path: tuple[str, ...], value) -> dict:
    changed = copy.deepcopy(config)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return changed
