"""Measure one layer metric of a trained arm against the base model."""

from colocate import adapters, files, models, pairs, profiles
from colocate.provenance import Job

with Job(__doc__, inputs="model geometry adapter pairs* paraphrases", outputs="profile variants run") as job:
    settings = job.settings
    place = files.read_json(job.input.geometry)
    data = {
        "pairs": pairs.read_pairs(job.input.pairs)[: settings["limit"]],
        "paraphrases": pairs.read_paraphrases(job.input.paraphrases)[: settings["limit"]],
    }
    tokenizer = models.load_tokenizer(job.input.model.parent)
    model = models.load_model(job.input.model.parent, place["dtype"], place["device"])
    arm = adapters.load(model, job.input.adapter.parent)
    chosen = settings["profile"]
    measured = profiles.compute(chosen["metric"], arm, tokenizer, chosen, data, job.progress)
    files.write_csv(job.out.profile, measured.profile)
    files.write_parquet(job.out.variants, measured.variants)
    job.record.update(device=place["device"], dtype=place["dtype"])
