"""Write the report: one self-contained HTML page."""

import yaml

from colocate import config, report
from colocate.provenance import Job

with Job(__doc__, inputs="config default claims frozen", outputs="html") as job:
    settings = job.settings
    merged, default = (
        yaml.safe_load(path.read_text(encoding="utf-8")) for path in (job.input.config, job.input.default)
    )
    report.write_report(
        settings["results"],
        settings["models"],
        job.out.html,
        config=merged,
        default=config.complete(default),
        aliases=settings["aliases"],
        claims=job.input.claims,
        frozen=job.input.frozen,
    )
