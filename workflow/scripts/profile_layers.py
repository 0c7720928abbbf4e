"""Measure one layer profile of the untrained model, with every variant of its kind from the same pass."""

import pandas as pd

from colocate import files, models, profiles
from colocate.profiles.data import read_data
from colocate.provenance import Job

INPUTS = "model geometry pairs* paraphrases texts examples*"

with Job(__doc__, inputs=INPUTS, outputs="profile per_item variants run") as job:
    settings, chosen = job.settings, job.settings["profile"]
    place = files.read_json(job.input.geometry)
    tokenizer = models.load_tokenizer(job.input.model.parent)
    examples = None
    if job.input.examples:
        examples = job.input.examples[0], settings["examples"], chosen.get("max_examples")
    data = read_data(job.input.pairs, job.input.paraphrases, settings["limit"], job.input.texts, examples, tokenizer)
    dtype = profiles.dtype_of(chosen, place["dtype"])
    model = models.load_model(job.input.model.parent, dtype, place["device"])
    measured = profiles.compute(chosen["metric"], model, tokenizer, chosen, data, job.progress)
    files.write_csv(job.out.profile, measured.profile)
    items = measured.items if measured.items is not None else pd.DataFrame(columns=["item", "layer", "value"])
    files.write_parquet(job.out.per_item, items)
    files.write_parquet(job.out.variants, measured.variants)
    job.record.update(device=place["device"], dtype=dtype)
