"""Judge every published claim by its own rule, on what this study measured."""

import pandas as pd

from colocate import files, pairs, results
from colocate.provenance import Job
from colocate.statistics import claims, evidence

INPUTS = "claims correlations contrasts pairs* profiles* per_item* layer_sets* alphas* summaries* arm_profiles*"

with Job(__doc__, inputs=INPUTS, outputs="verdicts") as job:
    settings = job.settings
    cka = [path for path in job.input.arm_profiles if path.stem == "linear_cka"]
    summaries = results.by_run(
        job.input.summaries, lambda path: pd.DataFrame([files.read_json(path)]).assign(benchmark=path.stem)
    )
    found = evidence.evidence(
        correlations=pd.read_csv(job.input.correlations),
        contrasts=pd.read_csv(job.input.contrasts),
        profiles={path.stem: pd.read_csv(path) for path in job.input.profiles},
        items={path.name.split(".")[0]: pd.read_parquet(path) for path in job.input.per_item},
        layer_sets={path.stem: files.read_json(path) for path in job.input.layer_sets},
        alphas=results.by_run(job.input.alphas, pd.read_csv),
        summaries=summaries,
        scope=settings["scope"],
        cka=results.by_run(cka, pd.read_csv) if cka else None,
        item_domains={pair.id: pair.domain for pair in pairs.read_pairs(job.input.pairs)},
        reference=settings["reference"],
        seed=settings["seed"],
        **settings["sets"],
    )
    files.write_csv(job.out.verdicts, claims.judge(job.input.claims, found))
