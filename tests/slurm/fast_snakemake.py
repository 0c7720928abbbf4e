"""snakemake whose SLURM executor looks at its jobs every second, for tests alone.

The executor waits 10 s longer after every look in which no job completed, up to 180 s, and no setting changes that;
everything else (sbatch, srun, squeue, what is done about a state) stays as it is.
"""

import sys

from snakemake_executor_plugin_slurm import Executor

SECONDS = 1

if __name__ == "__main__":
    Executor.next_seconds_between_status_checks = property(lambda self: SECONDS, lambda self, value: None)
    from snakemake.cli import main

    sys.exit(main())
