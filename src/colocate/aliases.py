"""Arms that are one and the same under several names, out of a completed config. Light: the Snakefile uses it.

Two entries are one arm if they train and measure the same once names of layer sets are replaced by their rules and what
an entry leaves open is filled in. A budget stands for what it counts (layers, ranks, targets, variant); matched against
as much as the arm has anyway, it changes nothing (budget.match_budget gives back the same ranks).
"""

from colocate import tuning
from colocate.layer_sets import COUNTED, LORA, PARTS


def same_arms(config: dict) -> dict[str, str]:
    """Each selected arm and the first selected arm that is the same."""
    meant = {arm: meaning(config, arm) for arm in config["select"]["arms"]}
    return {arm: next(first for first in meant if meant[first] == entry) for arm, entry in meant.items()}


def of(config: dict) -> dict[str, str]:
    """Each selected arm that is not run under its own name, and the arm that stands for it."""
    return {arm: first for arm, first in same_arms(config).items() if arm != first}


def meaning(config: dict, arm: str) -> dict:
    """An arm's entry without names and with nothing left open."""
    entry = dict(config["arms"][arm])
    models, only = config["select"]["models"], entry.pop("models", None)
    usual = {"seeds": config["seeds"], "measure": "all", "draw": 0} | _training(config["training"], entry)
    entry = usual | entry | {part: _rule(config, entry[part]) for part in PARTS if part in entry}
    entry["models"] = [model for model in models if only is None or model in only]
    if "budget" in entry:
        matched = meaning(config, entry.pop("budget").removeprefix("match "))
        counted, own = _counted(matched), _counted(entry)
        scale = entry.pop("scale", "constant")
        entry |= {} if counted == own else {"budget": counted, "scale": scale}
    return entry


def _training(training: dict, entry: dict) -> dict:
    """What an entry that says nothing else takes from `training`; a rate that is tuned is the list of those tried."""
    lora = {key: training["lora"][key] for key in LORA} | {"lora_plus_ratio": training["lora_plus_ratio"]}
    rates = {rate: training["tuning"][rate] or training[rate] for rate, used in tuning.uses(entry).items() if used}
    return rates | (lora if "lora" in entry else {})


def _counted(entry: dict) -> dict:
    """What the number of trainable parameters depends on."""
    return {key: entry[key] for key in (*PARTS, *COUNTED, "draw") if key in entry}


def _rule(config: dict, name: str) -> dict:
    """A layer set's rule, the sets that it is made from replaced by theirs."""
    entry = config["layer_sets"][name]
    parts = {kind: [_rule(config, part) for part in entry[kind]] for kind in ("union", "minus") if kind in entry}
    if "shift" in entry:
        parts["shift"] = [_rule(config, entry["shift"][0]), entry["shift"][1]]
    # A random set is drawn under its name: two names are two draws.
    return entry | parts | ({"name": name} if "random" in entry else {})
