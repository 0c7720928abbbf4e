"""Write the report: one self-contained HTML page."""

import yaml

from colocate import report
from colocate.provenance import Job

with Job(__doc__, inputs="config claims records*", outputs="html") as job:
    settings = job.settings
    report.write_report(
        settings["results"],
        settings["models"],
        job.out.html,
        config=yaml.safe_load(job.input.config.read_text(encoding="utf-8")),
        aliases=settings["aliases"],
        records=job.input.records,
        claims=job.input.claims,
    )
