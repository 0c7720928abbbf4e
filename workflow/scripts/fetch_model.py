"""Download a model's files, checked, into a folder with `download.json`.

The library puts the folder in place whole; this job adds its record beside it. The folder is the workflow's own: what
an earlier run left there, whose download.json Snakemake has just removed, gives way.
"""

import shutil

from colocate import downloads
from colocate.provenance import Job

with Job(__doc__, inputs="download", outputs="run") as job:
    source = job.settings["source"]
    folder = job.input.download.parent
    shutil.rmtree(folder, ignore_errors=True)
    downloads.fetch_model(source, folder, sha256=job.settings["sha256"], revision=job.settings["revision"])
