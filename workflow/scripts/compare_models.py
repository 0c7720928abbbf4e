"""Put the models of a study side by side, pool their correlations, judge the claims that speak of several models."""

import pandas as pd

from colocate import files
from colocate.provenance import Job
from colocate.statistics import across, claims, over_models

INPUTS = "geometries* correlations* contrasts* verdicts* published compute"

with Job(__doc__, inputs=INPUTS, outputs="table claims") as job:
    models, scope = job.settings["models"], job.settings["scope"]

    def of_models(paths, read=pd.read_csv) -> dict:
        return dict(zip(models, map(read, paths), strict=True))

    correlations = of_models(job.input.correlations)
    table = across.compare(
        of_models(job.input.geometries, files.read_json), correlations, of_models(job.input.contrasts)
    )
    verdicts, bill = of_models(job.input.verdicts), pd.read_csv(job.input.compute)
    found = over_models.evidence(table, correlations, verdicts, bill, job.input.published, scope)
    files.write_csv(job.out.table, table)
    files.write_csv(job.out.claims, claims.judge(job.input.published, found, only=over_models.OF_THE_STUDY))
