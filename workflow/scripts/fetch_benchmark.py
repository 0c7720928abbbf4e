"""Download a data set of the hub, a benchmark's or one to train on, into a folder with `manifest.json`.

The library puts the folder in place whole; this job adds its record beside it. With IFEval comes what its rules need.
"""

from colocate import hub_data, sentence_splitter
from colocate.provenance import Job

with Job(__doc__, inputs="manifest", outputs="run") as job:
    source, revision = job.settings["source"], job.settings.get("revision")
    if source == sentence_splitter.DATASET and not sentence_splitter.present():
        sentence_splitter.fetch()
    manifest = hub_data.fetch(source, job.input.manifest.parent, revision=revision)
    job.record.update(revision=manifest["revision"], sha256=manifest["sha256"])
