"""Download a benchmark's data set into a folder with `manifest.json`.

The library puts the folder in place whole; this job adds its record beside it.
"""

from colocate.evaluation import tasks
from colocate.provenance import Job

with Job(__doc__, inputs="manifest", outputs="run") as job:
    tasks.fetch_dataset(job.settings["source"], job.input.manifest.parent)
