"""Convert a downloaded model to a plain Hugging Face folder with a manifest.

The library puts the folder in place whole; this job adds its record beside it. The folder is the workflow's own: what
an earlier run left there, whose manifest Snakemake has just removed, gives way.
"""

import shutil

from colocate import preparation
from colocate.provenance import Job

with Job(__doc__, inputs="download manifest", outputs="run") as job:
    settings = job.settings
    folders = job.input.download.parent, job.input.manifest.parent
    shutil.rmtree(folders[1], ignore_errors=True)
    preparation.prepare_model(settings["source"], *folders, geometry=settings["geometry"])
