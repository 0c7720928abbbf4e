"""Put the models of a study side by side, and pool their correlations over models where there are several."""

import pandas as pd

from colocate import files
from colocate.provenance import Job
from colocate.statistics import across

with Job(__doc__, inputs="geometries* correlations* contrasts*", outputs="table") as job:
    models = job.settings["models"]
    table = across.compare(
        dict(zip(models, map(files.read_json, job.input.geometries), strict=True)),
        dict(zip(models, map(pd.read_csv, job.input.correlations), strict=True)),
        dict(zip(models, map(pd.read_csv, job.input.contrasts), strict=True)),
    )
    files.write_csv(job.out.table, table)
