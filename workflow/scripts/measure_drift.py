"""Measure how far a trained arm's next-token distributions are from base on neutral text."""

from colocate import adapters, files, models
from colocate.drift import kl_to_base
from colocate.pairs import read_texts
from colocate.profiles.compared import Compared
from colocate.provenance import Job

with Job(__doc__, inputs="model geometry adapter texts", outputs="neutral_kl run") as job:
    files.verify(job.input.adapter.with_name("manifest.json"))
    place = files.read_json(job.input.geometry)
    tokenizer = models.load_tokenizer(job.input.model.parent)

    def load_base():
        return models.load_model(job.input.model.parent, place["dtype"], place["device"])

    arm = Compared.of_arm(adapters.load(load_base(), job.input.adapter.parent), load_base)
    drift = kl_to_base(arm, tokenizer, read_texts(job.input.texts), progress=job.progress)
    files.write_csv(job.out.neutral_kl, drift)
    job.record.update(device=place["device"], dtype=place["dtype"], tokens=int(drift["tokens"].sum()))
