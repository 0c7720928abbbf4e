"""Describe the run as an RO-Crate: one zip with workflow, inputs, results and report."""

from colocate import crate, files
from colocate.provenance import Job

INPUTS = "report workflow* data* results* environment"

with Job(__doc__, inputs=INPUTS, outputs="crate") as job:
    crate.describe(
        job.out.crate,
        job.settings["study"],
        workflow=job.input.workflow,
        inputs=job.input.data,
        outputs=[job.input.report, *job.input.results],
        environment=files.read_json(job.input.environment),
    )
