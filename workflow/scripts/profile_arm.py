"""Measure one layer metric of a trained arm against the base model."""

from colocate import adapters, files, models, profiles
from colocate.profiles.compared import Compared
from colocate.profiles.data import read_data
from colocate.provenance import Job

with Job(__doc__, inputs="model geometry adapter pairs* paraphrases", outputs="profile variants run") as job:
    settings = job.settings
    files.verify(job.input.adapter.with_name("manifest.json"))
    place = files.read_json(job.input.geometry)
    data = read_data(job.input.pairs, job.input.paraphrases, settings["limit"])
    tokenizer = models.load_tokenizer(job.input.model.parent)

    def load_base():
        return models.load_model(job.input.model.parent, place["dtype"], place["device"])

    arm = Compared.of_arm(adapters.load(load_base(), job.input.adapter.parent), load_base)
    chosen = settings["profile"]
    measured = profiles.compute(chosen["metric"], arm, tokenizer, chosen, data, job.progress)
    files.write_csv(job.out.profile, measured.profile)
    files.write_parquet(job.out.variants, measured.variants)
    job.record.update(device=place["device"], dtype=place["dtype"])
