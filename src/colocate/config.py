"""Read, complete and check a study's configuration, and say what it selects.

A wrong config stops here, before any job, with the key's path, what was found and what is allowed. Only light imports:
the workflow is parsed on every start.
"""

import copy
from collections.abc import Sequence
from pathlib import Path

from colocate import config_files, config_schema, gain, layer_sets, study_files
from colocate.errors import InputError
from colocate.layer_sets import PARTS
from colocate.profiles import METRICS

SET_RULES = (
    *("top", "bottom", "segments", "depth", "random", "spaced", "window", "shift", "layers", "all", "union", "minus"),
)
FULL_KEYS = {"full", "lr_full", "models", "seeds", "measure"}  # of an arm that is fine-tuned in full
RELEASED = "released-"  # in paths, a released fine-tune stands among the arms as released-MODEL
DIGESTS = {"sha256": "the digest of its wheel", "revision": "the commit of the hub model"}  # what pins a source
FEWEST_RATES = 3  # with fewer learning rates, every choice is at the edge of its list


def complete(config: dict, files: Sequence[str | Path] = ()) -> dict:
    """Check a merged config against the schema and its own cross-references; return it with every default filled in.

    `files`: those that it was merged from, in the order of the merge. Raises InputError naming the key's path, its file
    and line, what was found and what is allowed.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    config_files.check(files)
    rules = config_schema.load()
    config = copy.deepcopy(dict(config))
    try:
        error = best_match(Draft202012Validator(rules).iter_errors(config))
        if error is not None:
            unknown = config_schema.unknown_keys(error)[:1]
            at = config_schema.path_of([*error.absolute_path, *unknown])
            raise WrongKey(config_schema.path_of(error.absolute_path), config_schema.violation(error), at)
        config = config_schema.with_defaults(config, rules, rules["$defs"])
        _check_references(config)
    except WrongKey as error:
        raise InputError(located(error.key, error.said, files, error.at)) from None
    config["select"]["arms"] = [name for arm in config["select"]["arms"] for name in _draw_names(config, arm)]
    config["arms"] = _expand_draws(config)
    return config


class WrongKey(InputError):
    """A key of the config that is not as it should be, before anyone knows which file it is from.

    `at`: the key to look for in the files, if not this one.
    """

    def __init__(self, key: str, said: str, at: str = ""):
        super().__init__(f"config: {key}: {said}")
        self.key, self.said, self.at = key, said, at or key


def check_machine(study: dict, files: Sequence[str | Path] = (), mirror: str = "", planning: bool = False) -> None:
    """InputError naming all that a completed config selects and that is not on this machine (study_files)."""
    found = [located(key, said, files) for key, said in study_files.problems(study, mirror, planning)]
    if found:
        raise InputError("\n".join(found))


def check_programs(study: dict, files: Sequence[str | Path], jobs: list[dict]) -> list[str]:
    """InputError naming all that these jobs of models need and this machine lacks; returns what it will do without."""
    found, doubts = ([located(key, said, files) for key, said in part] for part in study_files.programs(study, jobs))
    if found:
        raise InputError("\n".join(found))
    return doubts


def located(key: str, said: str, files: Sequence[str | Path], at: str = "") -> str:
    """`said` of a key of the config, with the file and line where it stands."""
    place = config_files.place(at or key, files)
    return f"config: {key}{f' ({place})' if place else ''}: {said}"


def _need(condition: bool, key: str, found, allowed) -> None:
    if not condition:
        choice = ", ".join(map(str, allowed)) or "nothing yet" if isinstance(allowed, list) else allowed
        hint = config_schema.near(found, allowed) if isinstance(allowed, list) else ""
        raise WrongKey(key, f"found {found!r}{hint}; allowed: {choice}")


def _require(entry: dict, needed: str, key: str, what: str) -> None:
    if needed not in entry:
        raise WrongKey(key, f"{needed} is missing; add {needed}: {what}")


def _check_references(config: dict) -> None:
    select = config["select"]
    for catalogue in ("models", "profiles", "arms", "benchmarks"):
        for name in select[catalogue]:
            _need(name in config[catalogue], f"select.{catalogue}", name, sorted(config[catalogue]))
    _need(
        "base" in select["arms"], "select.arms", select["arms"], "a list with base in it: every arm is compared with it"
    )
    _check_models(config["models"])
    _check_profiles(config)
    _check_sets(config["layer_sets"], config["profiles"])
    for name, arm in config["arms"].items():
        _check_arm(name, arm, config["arms"], config["layer_sets"])
    for key, rates in config["training"]["tuning"].items():
        if isinstance(rates, list):
            _need(
                len(rates) == 0 or len(rates) >= FEWEST_RATES,
                f"training.tuning.{key}",
                rates,
                f"an empty list, or at least {FEWEST_RATES} rates: of fewer, the chosen one is always at the edge",
            )
    for number, source in enumerate(config["mixture"]["sources"]):
        needed = {"jsonl": "path", "hub": "dataset"}.get(source["kind"])
        if needed:
            _require(source, needed, f"mixture.sources[{number}]", f"what kind {source['kind']} reads")
    for kind in ("arms", "layer_sets"):
        for name, entry in config[kind].items():
            for model in entry.get("models", []):
                _need(model in config["models"], f"{kind}.{name}.models", model, sorted(config["models"]))
    _check_statistics(config)
    _check_selected_sets(config)
    _check_sizes(config)


def _check_models(models: dict) -> None:
    for name, model in models.items():
        needed = {"pypi": "sha256", "hf": "revision"}.get(model["source"].split(":")[0])
        if needed:
            _require(model, needed, f"models.{name}", f"{DIGESTS[needed]}, so that the model is always the same")
        shape = model["geometry"]
        _need(
            shape["n_heads"] % shape["n_kv_heads"] == 0,
            f"models.{name}.geometry.n_kv_heads",
            shape["n_kv_heads"],
            f"a divisor of n_heads = {shape['n_heads']}",
        )
        for other in model.get("released", []):
            key = f"models.{name}.released"
            _need(other in models and other != name, key, other, sorted(set(models) - {name}))
            differing = [part for part in shape if part != "vocab" and models[other]["geometry"][part] != shape[part]]
            _need(not differing, key, other, f"a model of the same geometry; {', '.join(differing)} differ")


def _check_profiles(config: dict) -> None:
    for name, entry in config["profiles"].items():
        _need(
            name not in gain.PROFILES.values(), "profiles", name, "another name: select.layer_gain makes this profile"
        )
        known = METRICS[entry["metric"]]
        allowed = {"metric", *known.settings} | ({"pairs"} if known.needs == "pairs" else set())
        for key in entry:
            _need(key in allowed, f"profiles.{name}", key, f"settings of {known.name}: {', '.join(sorted(allowed))}")
        if entry.get("pairs") == "made" and name in config["select"]["profiles"]:
            _need(config["pairs"]["made"], "pairs.made", [], f"how to make them: profile {name} has `pairs: made`")
    for number, made in enumerate(config["pairs"]["made"]):
        _need(
            made["benchmark"] in config["benchmarks"],
            f"pairs.made[{number}].benchmark",
            made["benchmark"],
            sorted(config["benchmarks"]),
        )


def _check_sets(sets: dict, profiles: dict) -> None:
    for name, rule in sets.items():
        kinds = [kind for kind in SET_RULES if kind in rule]
        _need(len(kinds) == 1, f"layer_sets.{name}", kinds or "no rule", f"exactly one of {', '.join(SET_RULES)}")
        if kinds[0] in ("top", "bottom"):
            _require(rule, "by", f"layer_sets.{name}", "a profile, or layer_gain")
            _need(
                rule["by"] in [*profiles, *gain.PROFILES.values()],
                f"layer_sets.{name}.by",
                rule["by"],
                [*sorted(profiles), *gain.PROFILES.values()],
            )
        for other in set_parts(rule):
            usable = sorted(part for part in set(sets) - {name} if "random" not in sets[part])
            _need(other in usable, f"layer_sets.{name}.{kinds[0]}", other, usable)
    for name, rule in sets.items():
        reached = set_parts(rule)
        for part in reached:  # grows: the parts of a part follow
            _need(part != name, f"layer_sets.{name}", reached, "sets that are not made from this one again")
            reached += [inner for inner in set_parts(sets[part]) if inner not in reached]


def _check_arm(name: str, arm: dict, arms: dict, sets: dict) -> None:
    _need(not name.startswith(RELEASED), "arms", name, f"another name: {RELEASED}... is that of a released fine-tune")
    for part in PARTS:
        if part in arm:
            _need(arm[part] in sets, f"arms.{name}.{part}", arm[part], sorted(sets))
    if "full" in arm:
        _require(arm, "lr_full", f"arms.{name}", "the learning rate of full fine-tuning, e.g. 1.0e-5")
        extra = sorted(set(arm) - FULL_KEYS)
        _need(not extra, f"arms.{name}", extra, f"beside full: {', '.join(sorted(FULL_KEYS - {'full'}))}")
    if "lr_full" in arm:
        _require(arm, "full", f"arms.{name}", "true (lr_full is its learning rate)")
    _need(
        name == "base" or set(PARTS) & set(arm) or "full" in arm,
        f"arms.{name}",
        arm,
        "lora, garfa and/or temperature: a layer set; or full: true",
    )
    _need(name != "base" or not arm, "arms.base", arm, "{}: base is the untrained model")
    for key in ("variant", "lora_plus_ratio", "rank", "alpha", "targets", "lr_lora"):
        if key in arm:
            _require(arm, "lora", f"arms.{name}", f"a layer set ({key} is about LoRA)")
    if "budget" in arm:
        other = arm["budget"].removeprefix("match ")
        choices = sorted(set(arms) - {name, "base"})
        _need(other in choices, f"arms.{name}.budget", other, choices)
        _require(arm, "lora", f"arms.{name}", "a layer set (a budget sets LoRA's ranks)")
        _need(
            "budget" not in arms[other],
            f"arms.{name}.budget",
            arm["budget"],
            f"an arm without a budget of its own; {other} has one",
        )
        _need("full" not in arms[other], f"arms.{name}.budget", arm["budget"], f"an adapter, which {other} is not")
    if arm.get("scale") == "as_published":
        _require(arm, "budget", f"arms.{name}", "match ARM (only a matched rank changes the scale)")


def _check_statistics(config: dict) -> None:
    chosen, profiles, selected = config["statistics"], config["profiles"], config["select"]["profiles"]
    for name in chosen["primary_against"]:
        _need(name in config["arms"], "statistics.primary_against", name, sorted(config["arms"]))
    _need(chosen["reference"] in config["arms"], "statistics.reference", chosen["reference"], sorted(config["arms"]))
    for key, metric in (("primary_sensitivity", "sensitivity"), ("primary_rope", "rope_influence")):
        allowed = sorted(name for name in selected if profiles[name]["metric"] == metric)
        _need(
            chosen[key] in allowed,
            f"statistics.{key}",
            chosen[key],
            allowed or f"a profile of metric {metric} that select.profiles holds: add one there",
        )
    if any(config["twins"].values()):
        made = profiles[chosen["primary_sensitivity"]].get("pairs") == "made"
        _need(
            not made,
            "twins",
            config["twins"],
            f"no twins: {chosen['primary_sensitivity']} uses pairs made by the model itself, which a twin cannot make",
        )


def _check_selected_sets(config: dict) -> None:
    """A selected arm may only use sets whose profile is selected too, and that have layers in each model."""
    select, gains = config["select"], {profile: kind for kind, profile in gain.PROFILES.items()}
    for name in select["arms"]:
        for set_name in arm_sets(config, name):
            by = config["layer_sets"][set_name].get("by")
            if by in gains:
                kind = gains[by]
                _need(
                    kind in select["layer_gain"],
                    "select.layer_gain",
                    select["layer_gain"],
                    f"a list with {kind} in it: arm {name} uses layer set {set_name}, which is made from {by}",
                )
            elif by is not None:
                _need(
                    by in select["profiles"],
                    "select.profiles",
                    select["profiles"],
                    f"a list with {by} in it: arm {name} uses layer set {set_name}, which is made from it",
                )


def _check_sizes(config: dict) -> None:
    """Every set of a selected arm has its layers in every selected model, as far as that needs no profile."""
    select = config["select"]
    for model in select["models"]:
        n_layers = config["models"][model]["geometry"]["n_layers"]
        for arm in select["arms"]:
            for name in arm_sets(config, arm) if model in config["arms"][arm].get("models", [model]) else ():
                rule = config["layer_sets"][name]
                try:
                    for kind in ("top", "bottom", "random"):
                        if kind in rule:
                            layer_sets.count(rule[kind], n_layers, f"layer_sets.{name}")
                    if not {"top", "bottom", "random", "union", "minus", "shift"} & set(rule):
                        layer_sets.select(name, rule, n_layers)
                except InputError as error:
                    said = str(error).removeprefix(f"layer_sets.{name}: ")
                    raise WrongKey(f"layer_sets.{name}", f"{said} (model {model}, arm {arm})") from None


def _draw_names(config: dict, arm: str) -> list[str]:
    draws = config["arms"][arm].get("draws")
    return [arm] if draws is None else [f"{arm}-draw{draw}" for draw in range(draws)]


def _expand_draws(config: dict) -> dict:
    """Arms with `draws: N` become N arms ARM-draw0..N-1, each with its own number of the draw."""
    arms = {}
    for name, arm in config["arms"].items():
        if "draws" not in arm:
            arms[name] = arm
            continue
        plain = {key: value for key, value in arm.items() if key != "draws"}
        arms.update({copy_name: plain | {"draw": draw} for draw, copy_name in enumerate(_draw_names(config, name))})
    return arms


def set_parts(rule: dict) -> list[str]:
    """Names of the sets that a set is made from: those of `union`, `minus` and `shift`."""
    return [*rule.get("union", []), *rule.get("minus", []), *rule.get("shift", [])[:1]]


def arm_sets(config: dict, arm: str) -> list[str]:
    """Layer sets that an arm needs, those of the arm whose budget it matches and the parts of unions included."""
    entry = config["arms"][arm]
    names = [entry[part] for part in PARTS if part in entry]
    if "budget" in entry:
        names += arm_sets(config, entry["budget"].removeprefix("match "))
    for name in names:  # grows: the parts of a part follow
        names += [part for part in set_parts(config["layer_sets"][name]) if part not in names]
    return sorted(set(names))
