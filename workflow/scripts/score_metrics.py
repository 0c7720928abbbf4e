"""Score every cheap layer metric by what its choice of layers loses against the measured layer gain."""

import pandas as pd

from colocate import files
from colocate.provenance import Job
from colocate.statistics import regret

with Job(__doc__, inputs="profiles* gains*", outputs="regret") as job:
    profiles, gains = (
        {path.stem: pd.read_csv(path) for path in paths} for paths in (job.input.profiles, job.input.gains)
    )
    files.write_csv(job.out.regret, regret.regrets(profiles, gains, seed=job.settings["seed"]))
