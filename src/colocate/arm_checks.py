"""What a study's arms ask of a model's layers, so that a model that cannot give it is refused before it is measured.

Held against the geometry as soon as that is known: by the job that records it, which finds all questions in a file that
the driver writes, and, once it is recorded, whenever the workflow is parsed. The file is no input of that job: other
arms would otherwise describe the model anew, and all would follow.

A layer set made from a profile is not known yet: n layers of all L may be chosen, and it is refused only where fewer
than n of them would do. Of a set that is made from such a set, one layer at least is needed.
"""

from collections.abc import Sequence
from pathlib import Path

from colocate import config as configuration
from colocate import layer_checks, layer_sets, selection
from colocate.errors import InputError
from colocate.files import read_json, write_json

FILE = ".snakemake/colocate-arms.json"  # of the run that goes on in this folder: {model: what is asked}

Choice = tuple[list[int], int]  # layers that a set may take, and how many of them it takes


def write(study: dict) -> None:
    write_json(FILE, {model: asked(study, model) for model in study["select"]["models"]})


def check(study: dict, files: Sequence[str | Path] = ()) -> None:
    """InputError naming all that the models whose geometry this study has recorded can never give its arms."""
    found = []
    for model in study["select"]["models"]:
        recorded = Path("results", study["study"], model, "geometry.json")
        geometry = read_json(recorded) if recorded.is_file() else {}
        if geometry.get("source") == study["models"][model]["source"]:
            found += layer_checks.refused(asked(study, model, drawn=False), geometry)
    if found:
        raise InputError("\n".join(configuration.located(key, said, files) for key, said in dict.fromkeys(found)))


def asked(study: dict, model: str, drawn: bool = True) -> list[dict]:
    """One row for each part of each arm of a model, as layer_checks.refused takes them.

    `drawn`: random sets are drawn, which takes numpy; else they are as little known as those made from a profile.
    InputError for a fixed layer set that the model has no layers for.
    """
    n_layers, rules = study["models"][model]["geometry"]["n_layers"], study["layer_sets"]
    arms = selection.arms(study, model)
    budgets = [study["arms"][arm]["budget"].removeprefix("match ") for arm in arms if "budget" in study["arms"][arm]]
    rows = []
    for arm in dict.fromkeys([*arms, *budgets]):
        entry = study["arms"][arm]
        own = "targets" in entry
        for part in [part for part in layer_sets.PARTS if part in entry]:
            key, modules = f"arms.{arm}.{part}", None
            if part == "lora":
                key = f"arms.{arm}.targets" if own else "training.lora.targets"
                modules = entry["targets"] if own else study["training"]["lora"]["targets"]
            for layers, number in _choices(entry, part, rules, n_layers, selection.seeds(study, arm) if drawn else []):
                row = {"key": key, "found": entry[part], "modules": modules, "layers": layers, "number": number}
                rows += [row] * (row not in rows)
    return rows


def _choices(entry: dict, part: str, rules: dict, n_layers: int, seeds: list[int]) -> list[Choice]:
    name = entry[part]
    if "random" not in rules[name] or not seeds:
        return [_choice(name, rules, n_layers)]
    drawn = [layer_sets.draw(name, rules[name], n_layers, seed, entry.get("draw", 0)) for seed in seeds]
    return [(layers, len(layers)) for layers in drawn]


def _choice(name: str, rules: dict, n_layers: int) -> Choice:
    rule = rules[name]
    for kind in ("top", "bottom", "random"):
        if kind in rule:
            return list(range(n_layers)), layer_sets.count(rule[kind], n_layers, f"layer_sets.{name}")
    parts = {part: _choice(part, rules, n_layers) for part in configuration.set_parts(rule)}
    if any(len(layers) > number for layers, number in parts.values()):
        return list(range(n_layers)), 1
    layers = layer_sets.select(name, rule, n_layers, sets={part: layers for part, (layers, _) in parts.items()})
    return layers, len(layers)
