"""Make the training mixture: three disjoint splits of the configured sources, without what benchmarks ask, if told."""

import tempfile
from pathlib import Path

from colocate import contamination, hub_data, mixtures
from colocate.provenance import Job

NAMES = {"train": "train.jsonl", "validate": "validate.jsonl", "test": "test.jsonl", "dropped": "dropped.csv"}

with Job(__doc__, inputs="data* references*", outputs="train validate test dropped") as job:
    settings, hits = job.settings, None
    if settings["drop_contaminated"]:
        references = contamination.read_references(job.input.references, settings["benchmarks"])
        hits = contamination.Grams(references, private=contamination.private(settings["benchmarks"])).hits
    hub = [source["dataset"] for source in settings["sources"] if source["kind"] == "hub"]
    root = hub_data.root_of(job.input.data, hub[0]) if hub else hub_data.FETCHED
    with tempfile.TemporaryDirectory(dir=job.final["train"].parent) as folder:
        mixtures.build_mixture(settings["sources"], settings["seed"], folder, datasets_dir=root, hits=hits)
        job.collect(Path(folder), NAMES)
