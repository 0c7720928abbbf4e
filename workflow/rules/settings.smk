"""The settings of each rule: exactly the keys of the config that its job uses, as functions of wildcards alone."""


def profile_module(profile: str) -> str:
    """The module behind a profile's metric: what its code digest covers."""
    return METRICS[STUDY["profiles"][profile]["metric"]].module


def where_settings() -> dict:
    """Where a model runs: both change the last digits."""
    return {"device": STUDY["device"], "threads": THREADS}


def profile_settings(wildcards) -> dict:
    entry = STUDY["profiles"][wildcards.profile]
    metric = METRICS[entry["metric"]]
    chosen = {key: entry[key] for key in ("metric", *metric.settings) if key in entry}
    settings = {"profile": chosen | {"seed": STUDY["statistics"]["seed"]}, "limit": STUDY["pairs"]["limit"]}
    if metric.needs == "examples":
        template = STUDY["models"][wildcards.model]["chat_template"]
        settings["examples"] = {"chat_template": template, "max_length": STUDY["training"]["max_length"]}
    return settings | where_settings()


def training_settings(wildcards, of_an_arm: bool = True) -> dict:
    """Settings of a training. What belongs to an arm (its LoRA and its rates) comes with the resolved arm."""
    template = STUDY["models"][wildcards.model]["chat_template"]
    left_out = {"tuning", "lr_garfa"} | ({"lora", "lr_lora", "lora_plus_ratio"} if of_an_arm else set())
    chosen = {key: value for key, value in STUDY["training"].items() if key not in left_out}
    return {"training": chosen | {"chat_template": template}} | where_settings()


def gain_kind(profile: str) -> str:
    return next(kind for kind, name in gain.PROFILES.items() if name == profile)


def gain_settings(wildcards) -> dict:
    settings = training_settings(wildcards, of_an_arm=False)
    settings["training"]["max_tokens"] = STUDY["gain"]["max_tokens"]
    kind = gain_kind(wildcards.gain)
    layer = wildcards.layer if wildcards.layer == gain.ALL else int(wildcards.layer)
    width = {"block_width": STUDY["gain"]["block_width"]} if kind == "block" else {}
    return settings | {"kind": kind, "layer": layer, "seed": int(wildcards.seed)} | width


def tuning_settings(wildcards) -> dict:
    settings = training_settings(wildcards)
    chosen = STUDY["training"]["tuning"]
    settings["training"]["max_tokens"] = chosen["max_tokens"]
    rates = rates_of(wildcards.arm)[int(wildcards.rate)]
    scratch = f"{SCRATCH}/{wildcards.model}/tuning/{wildcards.arm}/rate{wildcards.rate}"
    return settings | {"resolve": resolve_settings(wildcards.arm, chosen["seed"], rates), "scratch": scratch}


def resolve_settings(arm: str, seed: int, rates: dict | None = None) -> dict:
    """An arm's entry, that of the arm whose budget it matches, the rules of their layer sets, and training's defaults."""
    entry = STUDY["arms"][arm]
    matched = STUDY["arms"][entry["budget"].removeprefix("match ")] if "budget" in entry else None
    return {
        "arm": arm,
        "seed": seed,
        "entry": {key: value for key, value in entry.items() if key != "seeds"} | (rates or {}),
        "matched": matched,
        "rules": {name: STUDY["layer_sets"][name] for name in configuration.arm_sets(STUDY, arm)},
        "training": layer_sets.used_defaults(entry | (rates or {}), matched, STUDY["training"]),
    }


def arm_settings(wildcards) -> dict:
    settings = {"resolve": resolve_settings(wildcards.arm, int(wildcards.seed))}
    if rates_of(tuned_as(wildcards.arm)):
        settings["tuning"] = {"seed": STUDY["training"]["tuning"]["seed"]}
    return settings


def token_settings() -> dict:
    """The limit on pairs, and the lengths of text that selected profiles cut windows of."""
    entries = [STUDY["profiles"][profile] for profile in SELECT["profiles"]]
    lengths = {entry["text_tokens"] for entry in entries if "text_tokens" in entry}
    return {"limit": STUDY["pairs"]["limit"], "text_tokens": sorted(lengths)}


def made_settings(wildcards) -> dict:
    made = STUDY["pairs"]["made"]
    return {
        "made": made,
        "benchmarks": {one["benchmark"]: STUDY["benchmarks"][one["benchmark"]] for one in made},
        "seed": STUDY["statistics"]["seed"],
    } | where_settings()


def arm_profile_settings(wildcards) -> dict:
    chosen = {"metric": wildcards.metric, "seed": STUDY["statistics"]["seed"]}
    return {"profile": chosen, "limit": STUDY["pairs"]["limit"]} | where_settings()


def evaluation_settings(wildcards) -> dict:
    template = STUDY["models"][wildcards.model]["chat_template"]
    return {
        "benchmark": wildcards.benchmark,
        "task": STUDY["benchmarks"][wildcards.benchmark],
        "evaluation": STUDY["evaluation"] | {"chat_template": template},
    } | where_settings()


def metrics_by_profile() -> dict[str, str]:
    return {profile: STUDY["profiles"][profile]["metric"] for profile in SELECT["profiles"]}


def correlation_settings() -> dict:
    keys = ("primary_sensitivity", "primary_rope", "surrogates", "seed")
    chosen = {profile: STUDY["profiles"][profile] for profile in SELECT["profiles"]}
    return {key: STUDY["statistics"][key] for key in keys} | {"profiles": chosen}


def resampling_settings() -> dict:
    metrics = metrics_by_profile()
    sensitivity = [profile for profile, metric in metrics.items() if metric == "sensitivity"]
    distances = [profile for profile, metric in metrics.items() if metric in ("sensitivity", "rope_influence")]
    return {"sensitivity": sensitivity, "distances": distances, "seed": STUDY["statistics"]["seed"]}


def random_arms(model: str) -> list[str]:
    """Arms whose layers are drawn anew for every seed."""
    drawn = {name for name, entry in STUDY["layer_sets"].items() if "random" in entry}
    return [arm for arm in arms_of(model) if drawn & set(configuration.arm_sets(STUDY, arm))]


def contrast_settings(wildcards) -> dict:
    chosen = STUDY["statistics"]
    return {
        "reference": SAME.get(chosen["reference"], chosen["reference"]),
        "primary_against": [SAME.get(arm, arm) for arm in chosen["primary_against"]],
        "random_arms": random_arms(wildcards.model),
        "aliases": aliases.of(STUDY),
    }


def top_sets() -> dict[str, str]:
    """Names of S and R: the sets that the reference arm's study takes from the top of the two primary profiles."""
    by = {"sensitive": STUDY["statistics"]["primary_sensitivity"], "positional": STUDY["statistics"]["primary_rope"]}
    tops = {entry["by"]: name for name, entry in reversed(STUDY["layer_sets"].items()) if "top" in entry}
    return {role: tops[profile] for role, profile in by.items() if profile in tops}


def reference_settings() -> dict:
    """How the files of the selected benchmarks are told apart, and which are private."""
    keys = ("task", "source", "private")
    return {
        "benchmarks": {name: {key: STUDY["benchmarks"][name][key] for key in keys} for name in SELECT["benchmarks"]}
    }


def mixture_settings() -> dict:
    return STUDY["mixture"] | (reference_settings() if STUDY["mixture"]["drop_contaminated"] else {})


def dataset_settings(wildcards) -> dict:
    source = f"{wildcards.organisation}/{wildcards.dataset}"
    revision = STUDY["dataset_revisions"].get(source)
    return {"source": source} | ({} if revision is None else {"revision": revision})


def scope_of(*names: str) -> dict:
    """The study's scope, so that a claim made elsewhere is only judged conceptually."""
    return {
        "model": ", ".join(f"{name} {STUDY['models'][name]['source']}" for name in names),
        "mixture": [
            source.get("path") or source.get("dataset") or source["kind"] for source in STUDY["mixture"]["sources"]
        ],
        "benchmarks": SELECT["benchmarks"],
    }


def claim_settings(wildcards) -> dict:
    """The scope and the names that claims are judged by."""
    chosen = {key: STUDY["statistics"][key] for key in ("reference", "seed")}
    chosen |= {"scope": scope_of(wildcards.model), "sets": top_sets(), "metrics": metrics_by_profile()}
    return chosen | {"aliases": aliases.of(STUDY)}


def figure_settings(wildcards) -> dict:
    """Of the selection only what names files that the figure reads: a new benchmark redraws no profile."""
    read = {name for need in FIGURES[wildcards.figure].needs for name in re.findall(r"{(\w+)}", LAYOUT[need])}
    read |= {"run"} if "seed" in read else set()
    chosen = {name: values for name, values in selection.of_model(STUDY, wildcards.model).items() if name in read}
    sources = {name: STUDY["benchmarks"][name]["source"] for name in SELECT["benchmarks"]}
    return {
        "figure": wildcards.figure,
        "results": f"{RESULTS}/{wildcards.model}",
        "model": wildcards.model,
        "select": chosen,
        "mini": figures.mini(sources),
    }


def bill_settings() -> dict:
    """Prices, the forecast, and the jobs whose records lie beside their logs."""
    others = {rule: sorted(outputs) for rule, outputs in other_jobs().items()}
    return {"prices": STUDY["prices"], "logs": LOGS, "others": others} | plan.forecast(STUDY)


def report_settings() -> dict:
    return {
        "study": STUDY["study"],
        "results": RESULTS,
        "models": {model: selection.of_model(STUDY, model) for model in SELECT["models"]},
        "aliases": aliases.of(STUDY),
        "default": config_files.digest("config/config.yaml"),
    }
