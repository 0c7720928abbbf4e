"""Judge every published claim by its own rule, on what this study measured."""

import pandas as pd

from colocate import files, results
from colocate.provenance import Job
from colocate.statistics import claims, contrasts, evidence

INPUTS = (
    "claims correlations contrasts domains twins profiles* per_item* layer_sets* alphas* summaries* arm_profiles* "
    "arms* heldout*"
)

with Job(__doc__, inputs=INPUTS, outputs="verdicts") as job:
    settings = job.settings

    def arm_metric(name: str):
        chosen = [path for path in job.input.arm_profiles if path.stem == name]
        return results.by_run(chosen, pd.read_csv) if chosen else None

    summaries = results.by_run(
        job.input.summaries, lambda path: pd.DataFrame([files.read_json(path)]).assign(benchmark=path.stem)
    )
    heldout = contrasts.stack_heldout({results.run_of(path): pd.read_parquet(path) for path in job.input.heldout})
    validate = heldout[heldout["split"] == "validate"]
    found = evidence.evidence(
        correlations=pd.read_csv(job.input.correlations),
        contrasts=pd.read_csv(job.input.contrasts),
        domains=pd.read_csv(job.input.domains),
        twins=pd.read_csv(job.input.twins),
        profiles={path.stem: pd.read_csv(path) for path in job.input.profiles},
        items={path.name.split(".")[0]: pd.read_parquet(path) for path in job.input.per_item},
        layer_sets={path.stem: files.read_json(path) for path in job.input.layer_sets},
        alphas=results.by_run(job.input.alphas, pd.read_csv),
        summaries=summaries,
        scope=settings["scope"],
        metrics=settings["metrics"],
        arms=[files.read_json(path) for path in job.input.arms],
        validate_loss=validate.groupby("arm")["loss"].mean().to_dict(),
        cka=arm_metric("linear_cka"),
        segment_swap=arm_metric("segment_swap"),
        reference=settings["reference"],
        aliases=settings["aliases"],
        seed=settings["seed"],
        **settings["sets"],
    )
    files.write_csv(job.out.verdicts, claims.judge(job.input.claims, found))
