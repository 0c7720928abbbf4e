"""Measure one layer metric of a released fine-tune against the base model that it was made from."""

from colocate import files, models, profiles
from colocate.profiles.compared import Compared
from colocate.profiles.data import read_data
from colocate.provenance import Job

with Job(__doc__, inputs="model geometry tuned pairs* paraphrases", outputs="profile variants run") as job:
    settings = job.settings
    place = files.read_json(job.input.geometry)
    data = read_data(job.input.pairs, job.input.paraphrases, settings["limit"])
    folders = job.input.model.parent, job.input.tuned.parent
    base, tuned = (models.load_model(folder, place["dtype"], place["device"]) for folder in folders)
    tokenizers = [models.load_tokenizer(folder) for folder in folders]
    released = Compared.of_release(base, tuned, *tokenizers)
    chosen = settings["profile"]
    measured = profiles.compute(chosen["metric"], released, tokenizers[0], chosen, data, job.progress)
    files.write_csv(job.out.profile, measured.profile)
    files.write_parquet(job.out.variants, measured.variants)
    job.record.update(device=place["device"], dtype=place["dtype"])
