"""Compare every arm with base: on every benchmark, and on neutral text."""

import pandas as pd

from colocate import files, results
from colocate.provenance import Job
from colocate.statistics.forgetting import forgetting

with Job(__doc__, inputs="contrasts drifts*", outputs="forgetting") as job:
    drifts = results.by_run(job.input.drifts, pd.read_csv)
    files.write_csv(job.out.forgetting, forgetting(pd.read_csv(job.input.contrasts), drifts))
