"""What a study runs on a model: arms, runs, layer sets, out of its completed config. Light: the Snakefile uses it.

An arm whose entry says the same as an earlier one is run once, under the earlier name (`aliases.same_arms`). base is
never trained, and counts once, as seed 0.
"""

from colocate import aliases, gain
from colocate import config as configuration


def arms(study: dict, model: str) -> list[str]:
    """Selected arms that this model takes part in, in the order of the config."""
    same = aliases.same_arms(study)
    names = sorted(set(same.values()), key=list(same).index)
    return [arm for arm in names if model in study["arms"][arm].get("models", [model])]


def seeds(study: dict, arm: str) -> list[int]:
    """Training seeds of an arm: its own, or the study's."""
    return study["arms"][arm].get("seeds", study["seeds"])


def runs(study: dict, model: str, trained_only: bool = False) -> list[tuple[str, int]]:
    """(arm, seed) of every run of a model."""
    trained = [(arm, seed) for arm in arms(study, model) if arm != "base" for seed in seeds(study, arm)]
    return trained if trained_only else [("base", 0), *trained]


def evaluated(study: dict, model: str) -> list[tuple[str, int]]:
    """(arm, seed) of every run that answers benchmarks: all but those whose held-out loss alone is measured."""
    return [(arm, seed) for arm, seed in runs(study, model) if study["arms"][arm].get("measure") != "heldout"]


def layer_sets(study: dict, model: str) -> list[str]:
    """Layer sets with a file of their own that the model's arms need: all but those that are drawn."""
    names = {name for arm in arms(study, model) for name in configuration.arm_sets(study, arm)}
    return sorted(name for name in names if "random" not in study["layer_sets"][name])


def of_model(study: dict, model: str) -> dict[str, list[str]]:
    """All of it by wildcard, as figures and report take it: files of an earlier selection stay out of them."""
    select = study["select"]
    return {
        "profile": [
            *select["profiles"],
            *(name for kind, name in gain.PROFILES.items() if kind in select["layer_gain"]),
        ],
        "layer_set": layer_sets(study, model),
        "arm": arms(study, model),
        "run": [f"{arm}/seed{seed}" for arm, seed in runs(study, model)],
        "benchmark": select["benchmarks"],
        "metric": select["arm_profiles"],
    }
