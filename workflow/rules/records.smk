"""Which run records the bill is made of: those of all jobs but the four that come after it (compute.AFTER)."""


def run_records() -> list[str]:
    """The run record of every job that measures, trains or evaluates: inputs of the bill."""
    records = []
    for model in SELECT["models"]:
        base = f"{RESULTS}/{model}"
        records += [f"resources/models/{model}.run.json", f"{base}/geometry.run.json"]
        records += made_pairs(model, SELECT["profiles"], ".run.json")
        records += profiles_of(model, ".run.json") + twin_profiles_of(model, ".run.json")
        records += [path for profile in gains() for path in gain_files(model, profile, ".run.json")]
        records += [path for arm in tuned_arms(model) for path in tuning_files(model, arm, ".run.json")]
        records += adapters_of(model, "train.run.json")
        records += arm_profiles_of(model, ".run.json") + released_profiles_of(model, ".run.json")
        records += evaluations_of(model, ".run.json") + drifts_of(model, ".run.json")
        records += [f"{base}/statistics/correlations.run.json"]
        records += [f"resources/models/{tuned}.run.json" for tuned in released_of(model)]
    return list(dict.fromkeys(records))


@functools.cache
def other_jobs() -> dict[str, dict[str, str]]:
    """{rule: {name of a job below the rule's logs: an output}} of the jobs whose record is no input of the bill.

    Their records lie beside their logs, or are shared by studies: one that is lost must not repeat its job. Left out
    are compute.AFTER, which come after the bill.
    """
    found = {
        "fetch_benchmark": {name: f"resources/datasets/{name}/manifest.json" for name in dataset_ids()},
        "check_pairs": {"": f"{RESULTS}/pairs.json"},
        "fetch_mixture": {"": f"{RESULTS}/mixture/dropped.csv"},
        "check_contamination": {"": f"{RESULTS}/mixture/contamination.csv"},
        "reanalyse_print": {"": f"{RESULTS}/reanalysis.csv"},
        "record_config": {"": f"{RESULTS}/config.yaml"},
    }
    for model in SELECT["models"]:
        base = f"{RESULTS}/{model}"
        of_model = {
            "fetch_model": {name: f"resources/downloads/{name}/download.json" for name in (model, *released_of(model))},
            "check_tokens": {model: f"{base}/pairs.json"},
            "join_layer_gain": {f"{model}/{profile}": f"{base}/profiles/{profile}.csv" for profile in gains()},
            "select_layers": {f"{model}/{name}": f"{base}/layer_sets/{name}.json" for name in selected_sets(model)},
            "resolve_arm": {
                f"{model}/{arm}/seed{seed}": f"{base}/arms/{arm}/seed{seed}.json"
                for arm, seed in runs(model, trained_only=True)
            },
            "draw_figure": {f"{model}/{figure}": f"{base}/figures/{figure}.svg" for figure in FIGURES},
        }
        statistics = {
            "resample_items": "selection.csv",
            "score_metrics": "regret.csv",
            "contrast_arms": "contrasts.csv",
            "compare_base": "forgetting.csv",
            "judge_claims": "claims.csv",
            "recommend_layers": "recommendation.json",
        }
        of_model |= {rule: {model: f"{base}/statistics/{name}"} for rule, name in statistics.items()}
        for rule, jobs in of_model.items():
            found[rule] = found.get(rule, {}) | jobs
    return {rule: jobs for rule, jobs in found.items() if jobs}


def other_outputs() -> list[str]:
    """What the bill waits for besides its inputs; a download came before the jobs that read it, and may be gone."""
    fetched = ("fetch_model", "fetch_benchmark")
    return [output for rule, jobs in other_jobs().items() if rule not in fetched for output in jobs.values()]
