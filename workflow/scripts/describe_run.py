"""Describe the run as an RO-Crate: one zip with workflow, inputs, results and report."""

from pathlib import Path

from colocate import crate, files
from colocate.provenance import Job

INPUTS = "report workflow* data* environment"

with Job(__doc__, inputs=INPUTS, outputs="crate") as job:
    study = Path(job.settings["results"])
    crate.describe(
        job.out.crate,
        study.name,
        workflow=job.input.workflow,
        inputs=job.input.data,
        outputs=[job.input.report, *crate.outputs(study, job.settings["models"])],
        environment=files.read_json(job.input.environment),
    )
