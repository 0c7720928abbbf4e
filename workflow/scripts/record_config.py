"""Write the merged, completed configuration of the study beside its results."""

import yaml

from colocate import files
from colocate.provenance import Job

with Job(__doc__, outputs="config") as job:
    files.write_text(job.out.config, yaml.safe_dump(job.settings, sort_keys=False, allow_unicode=True, width=120))
