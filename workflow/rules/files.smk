"""Which files there are: runs, inputs and targets of this study, as lists of paths."""

@functools.cache
def arms_of(model: str) -> list[str]:
    return selection.arms(STUDY, model)


@functools.cache
def runs(model: str, trained_only: bool = False) -> list[tuple[str, int]]:
    return selection.runs(STUDY, model, trained_only)


@functools.cache
def evaluated(model: str) -> list[tuple[str, int, str]]:
    """(arm, seed, benchmark) of every evaluation of a model."""
    return [(arm, seed, name) for arm, seed in selection.evaluated(STUDY, model) for name in SELECT["benchmarks"]]


@functools.cache
def selected_sets(model: str) -> list[str]:
    return selection.layer_sets(STUDY, model)


@functools.cache
def dataset_files(dataset: str) -> list[str]:
    """Files that stand for a hub data set: the manifest of the fetched one, or those that the mirror has."""
    if not DATASETS:
        return [f"{hub_data.FETCHED}/{dataset}/manifest.json"]
    try:
        return hub_data.mirrored(dataset, DATASETS)
    except InputError as error:
        raise WorkflowError(str(error)) from None


def dataset_ids() -> list[str]:
    """Hub ids of the data sets of the selected benchmarks and of the mixture, none where a mirror is used."""
    if DATASETS:
        return []
    made = [made["benchmark"] for made in STUDY["pairs"]["made"]] if made_pairs("", SELECT["profiles"]) else []
    sources = {STUDY["benchmarks"][name]["source"] for name in [*SELECT["benchmarks"], *made]}
    sources |= {source["dataset"] for source in STUDY["mixture"]["sources"] if source["kind"] == "hub"}
    return sorted(sources - {"builtin"})


def gains() -> list[str]:
    """Profiles of layer gain that this study selects."""
    return [profile for kind, profile in gain.PROFILES.items() if kind in SELECT["layer_gain"]]


def gain_files(model: str, profile: str, ending: str) -> list[str]:
    """A file of every training behind one profile of layer gain."""
    layers = list(range(STUDY["models"][model]["geometry"]["n_layers"]))
    layers += [gain.ALL] * (profile == gain.PROFILES["without"])
    return [f"{RESULTS}/{model}/{profile}/layer{layer}/seed{seed}{ending}" for layer in layers for seed in SEEDS]


def tuned_as(arm: str) -> str:
    """The arm whose tuning an arm takes its learning rates from: itself, or for draws of random layers the first."""
    number = STUDY["arms"][arm].get("draw")
    return arm if number is None else arm.removesuffix(f"-draw{number}") + "-draw0"


def rates_of(arm: str) -> list[dict]:
    """Pairs of learning rates that are tried for an arm; none where it is not tuned."""
    return tuning.grid(STUDY["arms"][arm], STUDY["training"])


def tuning_files(model: str, arm: str, ending: str = ".json") -> list[str]:
    first = tuned_as(arm)
    return [f"{RESULTS}/{model}/tuning/{first}/rate{rate}{ending}" for rate in range(len(rates_of(first)))]


def arm_set_files(wildcards) -> list[str]:
    """Files of the layer sets that an arm is resolved with: all but those that are drawn."""
    names = configuration.arm_sets(STUDY, wildcards.arm)
    drawn = {name for name in names if "random" in STUDY["layer_sets"][name]}
    return [f"{RESULTS}/{wildcards.model}/layer_sets/{name}.json" for name in names if name not in drawn]


def tuned_arms(model: str) -> list[str]:
    """Arms that are tuned, once each, for the selected arms of a model."""
    return sorted({tuned_as(arm) for arm in arms_of(model) if tuning_files(model, arm)})


def twins() -> list[str]:
    return [f"{kind}{number}" for kind in ("random", "shuffled") for number in range(STUDY["twins"][kind])]


def twin_profiles_of(model: str, ending: str = ".csv") -> list[str]:
    """The two primary profiles of every twin."""
    primary = [STUDY["statistics"][key] for key in ("primary_sensitivity", "primary_rope")]
    return [f"{RESULTS}/{model}/twins/{twin}/{profile}{ending}" for twin in twins() for profile in primary]


def released_of(model: str) -> list[str]:
    """The model's released fine-tunes, where something is measured of them."""
    return STUDY["models"][model].get("released", []) if SELECT["arm_profiles"] else []


def released_profiles_of(model: str, ending: str = ".csv") -> list[str]:
    folders = [f"{RESULTS}/{model}/arm_profiles/{configuration.RELEASED}{tuned}/seed0" for tuned in released_of(model)]
    return [f"{folder}/{metric}{ending}" for folder in folders for metric in SELECT["arm_profiles"]]


def uses_made_pairs(profile: str) -> bool:
    return STUDY["profiles"][profile].get("pairs") == "made"


def made_pairs(model: str, profiles: list[str], ending: str = ".jsonl") -> list[str]:
    """Pairs that the workflow makes for a model, where one of these profiles uses them."""
    return [f"{RESULTS}/{model}/pairs/made{ending}"] if any(map(uses_made_pairs, profiles)) else []


def pair_files(wildcards) -> list[str]:
    """The pairs of a profile: those of the files, or those made for the model."""
    return made_pairs(wildcards.model, [wildcards.profile]) or STUDY["pairs"]["files"]


def made_data() -> list[str]:
    """What the made pairs are read from."""
    return sorted({file for made in STUDY["pairs"]["made"] for file in benchmark_data(made["benchmark"])})


def example_files(profile: str) -> list[str]:
    """Training data, for metrics that are measured on it."""
    return [mixture("train")] * (METRICS[STUDY["profiles"][profile]["metric"]].needs == "examples")


def model_folder(wildcards) -> str:
    return f"resources/models/{wildcards.model}/manifest.json"


def mixture(split: str) -> str:
    return f"{RESULTS}/mixture/{split}.jsonl"


@functools.cache
def benchmark_data(benchmark: str) -> list[str]:
    """What a benchmark is read from: the files of its task's folder, and those of its hub data set."""
    entry = STUDY["benchmarks"][benchmark]
    files = [] if entry["source"] == "builtin" else list(dataset_files(entry["source"]))
    if entry["task"].endswith((".yaml", ".yml")):
        files += [str(path) for path in Path(entry["task"]).parent.iterdir() if path.is_file()]
    elif entry["source"] == "builtin":
        files += [str(path) for path in (Path("data/benchmarks") / entry["task"]).rglob("*") if path.is_file()]
    return sorted(path for path in files if not path.endswith(".pyc"))


def per_model(*patterns: str) -> list[str]:
    return [pattern.format(model=model) for model in SELECT["models"] for pattern in patterns]


def adapters_of(model: str, name: str) -> list[str]:
    return [f"{RESULTS}/{model}/adapters/{arm}/seed{seed}/{name}" for arm, seed in runs(model, trained_only=True)]


def evaluations_of(model: str, ending: str) -> list[str]:
    return [f"{RESULTS}/{model}/evaluations/{arm}/seed{seed}/{name}{ending}" for arm, seed, name in evaluated(model)]


def drifts_of(model: str, ending: str = ".csv") -> list[str]:
    """The drift on neutral text of every trained arm that is evaluated."""
    evaluated_runs = dict.fromkeys((arm, seed) for arm, seed, _ in evaluated(model) if arm != "base")
    return [f"{RESULTS}/{model}/evaluations/{arm}/seed{seed}/neutral_kl{ending}" for arm, seed in evaluated_runs]


def profiles_of(model: str, ending: str = ".csv") -> list[str]:
    """Files of every profile of a model; not every metric has items, and layer gain has a table alone."""
    names = SELECT["profiles"] + (gains() if ending == ".csv" else [])
    if ending == ".items.parquet":
        names = [name for name in names if METRICS[STUDY["profiles"][name]["metric"]].items]
    return [f"{RESULTS}/{model}/profiles/{profile}{ending}" for profile in names]


def arm_profiles_of(model: str, ending: str = ".csv") -> list[str]:
    return [
        f"{RESULTS}/{model}/arm_profiles/{arm}/seed{seed}/{metric}{ending}"
        for arm, seed in runs(model, trained_only=True)
        for metric in SELECT["arm_profiles"]
    ]


def targets(*stages: str) -> list[str]:
    """Files that the target rules ask for. Adapters and evaluations are named, so that a deleted one is noticed."""
    files = []
    for model in SELECT["models"]:
        base = f"{RESULTS}/{model}"
        stage_files = {
            "fetch": [f"resources/downloads/{name}/download.json" for name in (model, *released_of(model))],
            # With the layer sets they give: an edited pair file retrains nothing where these come out as they were.
            "profiles": [
                *profiles_of(model),
                *twin_profiles_of(model),
                *(f"{base}/layer_sets/{name}.json" for name in selected_sets(model)),
            ],
            "train": adapters_of(model, "manifest.json") + adapters_of(model, "adapter_model.safetensors"),
            "evaluate": [
                *evaluations_of(model, ".json"),
                *evaluations_of(model, ".items.parquet"),
                *drifts_of(model),
            ],
            "statistics": [
                *(f"{base}/statistics/{name}" for name in STATISTICS),
                *arm_profiles_of(model),
                *released_profiles_of(model),
            ],
            "figures": [f"{base}/figures/{figure}.svg" for figure in FIGURES],
            "report": [],
        }
        files += [file for stage in stages for file in stage_files[stage]]
    study_files = {
        "fetch": [f"resources/datasets/{name}/manifest.json" for name in dataset_ids()] + [mixture("train")],
        "statistics": [f"{RESULTS}/{name}" for name in ("reanalysis.csv", "needed.csv", "config.yaml")],
        # The bill is made when all else is done, the figures included; the comparison of models quotes it.
        "report": [
            *(
                f"{RESULTS}/{name}"
                for name in ("compute.csv", "forecast.csv", "across_models.csv", "across_claims.csv")
            ),
            *(f"reports/{STUDY['study']}{name}" for name in (".html", "-crate.zip")),
        ],
    }
    return files + [file for stage in stages for file in study_files.get(stage, [])]


def mixture_files() -> list[str]:
    """Files that the training mixture is made from."""
    files = []
    for source in STUDY["mixture"]["sources"]:
        if source["kind"] == "builtin":
            files += sorted(map(str, Path("data/instructions").glob("*.jsonl")))
        else:
            files += dataset_files(source["dataset"]) if source["kind"] == "hub" else [source["path"]]
    return files


def reference_files() -> list[str]:
    """What training data must not contain: pairs, texts, and every selected benchmark's items."""
    data = {path for name in SELECT["benchmarks"] for path in benchmark_data(name)}
    items = {path for path in data if path.endswith((*hub_data.ITEMS, hub_data.MANIFEST))}
    pairs = STUDY["pairs"]
    return [*pairs["files"], pairs["paraphrases"], pairs["texts"], *sorted(items)]


def dropped_for() -> list[str]:
    """What rows are dropped from the mixture for, where the config says so."""
    return reference_files() if STUDY["mixture"]["drop_contaminated"] else []


def set_profile(wildcards, ending: str) -> list[str]:
    """The profile that a layer set is made from, if it is made from one; layer gain has no variants."""
    by = STUDY["layer_sets"][wildcards.layer_set].get("by")
    if by is None or (by in gain.PROFILES.values() and ending != ".csv"):
        return []
    return [f"{RESULTS}/{wildcards.model}/profiles/{by}{ending}"]


def gain_profiles_of(model: str) -> list[str]:
    """Profiles of layer gain that this study measures by training."""
    return [f"{RESULTS}/{model}/profiles/{profile}.csv" for profile in gains()]


def cheap_profiles_of(model: str) -> list[str]:
    return [f"{RESULTS}/{model}/profiles/{profile}.csv" for profile in SELECT["profiles"]]


def arms_files(model: str) -> list[str]:
    return [f"{RESULTS}/{model}/arms/{arm}/seed{seed}.json" for arm, seed in runs(model, trained_only=True)]


def statistic(name: str) -> str:
    return f"{BASE}/statistics/{name}"


def result_files(model: str) -> dict[str, list[str]]:
    """Files of each kind of results (keys of colocate.results.LAYOUT) that this study has of a model."""
    base = f"{RESULTS}/{model}"
    kinds = {
        "geometry": [f"{base}/geometry.json"],
        "profiles": profiles_of(model),
        "variants": profiles_of(model, ".variants.parquet"),
        "layer_sets": [f"{base}/layer_sets/{name}.json" for name in selected_sets(model)],
        "arms": [f"{base}/arms/{arm}/seed{seed}.json" for arm, seed in runs(model, trained_only=True)],
        "alphas": adapters_of(model, "alphas.csv"),
        "temperatures": adapters_of(model, "temperatures.csv"),
        "training_logs": adapters_of(model, "training_log.csv"),
        "arm_profiles": arm_profiles_of(model),
        "evaluations": evaluations_of(model, ".json"),
    }
    return kinds | {name.split(".")[0]: [f"{base}/statistics/{name}"] for name in STATISTICS}


def joined_files() -> list[str]:
    """What the report shows of each model as a whole.

    What single jobs wrote is not listed beside it: compute.csv is made of every job's run record, hence newer than all
    of it, and listing it again would double the time that Snakemake needs for a large study.
    """
    files = per_model(f"{BASE}/geometry.json", *(statistic(name) for name in STATISTICS))
    return files + [
        f"{RESULTS}/{model}/layer_sets/{name}.json" for model in SELECT["models"] for name in selected_sets(model)
    ]


def figure_inputs(wildcards) -> list[str]:
    """What a figure reads; for the evaluations, which are many, the contrasts that are made of all of them."""
    files = result_files(wildcards.model)
    files["evaluations"] = files["contrasts"]
    return [file for need in FIGURES[wildcards.figure].needs for file in files[need]]


def workflow_files() -> list[str]:
    """What the workflow is made of, the Snakefile first: rules and scripts, profiles, the versions of all packages."""
    found = [path for folder in ("workflow", "profiles") for path in Path(folder).rglob("*")]
    found += Path("envs").glob("lock.txt")
    return ["Snakefile", *sorted(str(path) for path in found if path.is_file() and path.suffix != ".pyc")]


def data_files() -> list[str]:
    """What the run read: the config, models, pairs and texts, the published claims, and what stands for each benchmark.

    Files of a mirror or of the user, outside the checkout, are named by the config; a private benchmark's are not read.
    """
    pairs = STUDY["pairs"]
    files = [f"{RESULTS}/config.yaml", *pairs["files"], pairs["paraphrases"], pairs["texts"], *mixture_files()]
    files += [f"data/published/{name}" for name in ("claims.csv", "numbers.csv", "specification.yaml")]
    used = {one for model in SELECT["models"] for one in (model, *released_of(model))}
    files += [f"resources/models/{model}/manifest.json" for model in sorted(used)]
    public = [name for name in SELECT["benchmarks"] if not STUDY["benchmarks"][name]["private"]]
    files += [path for name in public for path in benchmark_data(name)]
    return sorted({path for path in files if not Path(path).is_absolute() and ".." not in Path(path).parts})
