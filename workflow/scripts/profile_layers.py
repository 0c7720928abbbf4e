"""Measure one layer profile of the untrained model, with every variant of its kind from the same pass."""

from colocate import files, models, pairs, profiles
from colocate.provenance import Job

with Job(__doc__, inputs="model geometry pairs* paraphrases texts", outputs="profile per_item variants run") as job:
    settings = job.settings
    place = files.read_json(job.input.geometry)
    limit = settings["limit"]
    data = {
        "pairs": pairs.read_pairs(job.input.pairs)[:limit],
        "paraphrases": pairs.read_paraphrases(job.input.paraphrases)[:limit],
        "texts": pairs.read_texts(job.input.texts),
    }
    tokenizer = models.load_tokenizer(job.input.model.parent)
    # In bfloat16, rounding alone would imitate an influence that falls with depth: the RoPE metrics compute in float32.
    dtype = "float32" if settings["profile"]["metric"] == "rope_influence" else place["dtype"]
    model = models.load_model(job.input.model.parent, dtype, place["device"])
    chosen = settings["profile"]
    measured = profiles.compute(chosen["metric"], model, tokenizer, chosen, data, job.progress)
    files.write_csv(job.out.profile, measured.profile)
    files.write_parquet(job.out.per_item, measured.items)
    files.write_parquet(job.out.variants, measured.variants)
    job.record.update(device=place["device"], dtype=dtype)
