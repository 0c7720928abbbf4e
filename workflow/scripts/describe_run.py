"""Describe the run as an RO-Crate: one zip with workflow, inputs, results and report."""

from colocate import crate
from colocate.provenance import Job

INPUTS = "report workflow* data* results* records*"

with Job(__doc__, inputs=INPUTS, outputs="crate") as job:
    crate.describe(
        job.out.crate,
        job.settings["study"],
        workflow=job.input.workflow,
        inputs=job.input.data,
        outputs=[job.input.report, *job.input.results],
        records=job.input.records,
    )
