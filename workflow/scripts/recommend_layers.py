"""Recommend the layers to adapt, and put the study's findings into words."""

import pandas as pd

from colocate import files, results
from colocate.provenance import Job
from colocate.statistics import contrasts, findings, recommendation

INPUTS = "geometry correlations contrasts claims selection regret profile gains* arms* heldout*"

with Job(__doc__, inputs=INPUTS, outputs="recommendation findings") as job:
    tables = [pd.read_csv(getattr(job.input, name)) for name in ("correlations", "contrasts", "claims")]
    advice = recommendation.recommend(
        contrasts.stack_heldout({results.run_of(path): pd.read_parquet(path) for path in job.input.heldout}),
        [files.read_json(path) for path in job.input.arms],
        n_layers=files.read_json(job.input.geometry)["n_layers"],
        random_arms=job.settings["random_arms"],
        gains={path.stem: pd.read_csv(path) for path in job.input.gains},
        proxy=(job.input.profile.stem, pd.read_csv(job.input.profile)),
        selection=pd.read_csv(job.input.selection),
        regrets=pd.read_csv(job.input.regret),
    )
    files.write_json(job.out.recommendation, advice)
    files.write_json(job.out.findings, findings.findings(*tables, advice))
