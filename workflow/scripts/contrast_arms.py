"""Compare arms, paired over items and seeds, and say how small a difference could have been seen."""

import pandas as pd

from colocate import files, results
from colocate.evaluation.chance import check_paired
from colocate.provenance import Job
from colocate.statistics import contrasts, power

with Job(__doc__, inputs="summaries* per_item* heldout*", outputs="contrasts power") as job:
    settings = job.settings
    items = results.by_run(
        job.input.per_item,
        lambda path: pd.read_parquet(path).assign(benchmark=path.name.removesuffix(".items.parquet")),
    )
    for _, found in items.groupby("benchmark"):
        check_paired({f"{arm} seed {seed}": part for (arm, seed), part in found.groupby(["arm", "seed"])})
    environments = results.by_run(
        job.input.summaries, lambda path: pd.DataFrame([files.read_json(path)["settings"]])[["dtype", "device"]]
    )
    heldout = contrasts.stack_heldout({results.run_of(path): pd.read_parquet(path) for path in job.input.heldout})
    primary = {"reference": settings["reference"], "against": settings["primary_against"]}
    table = contrasts.contrast(
        items,
        heldout,
        primary,
        random_arms=settings["random_arms"],
        environments=environments,
        aliases=settings["aliases"],
    )
    files.write_csv(job.out.contrasts, table)
    files.write_csv(job.out.power, power.power(table))
