"""Measure how far a trained arm's next-token distributions are from base on neutral text."""

from colocate import adapters, files, models
from colocate.evaluation.drift import kl_to_base
from colocate.pairs import read_texts
from colocate.profiles.compared import Compared
from colocate.provenance import Job

with Job(__doc__, inputs="model geometry adapter texts", outputs="neutral_kl run") as job:
    place = files.read_json(job.input.geometry)
    tokenizer = models.load_tokenizer(job.input.model.parent)
    model = models.load_model(job.input.model.parent, place["dtype"], place["device"])
    arm = Compared.of_adapter(adapters.load(model, job.input.adapter.parent))
    drift = kl_to_base(arm, tokenizer, read_texts(job.input.texts), progress=job.progress)
    files.write_csv(job.out.neutral_kl, drift)
    job.record.update(device=place["device"], dtype=place["dtype"], tokens=int(drift["tokens"].sum()))
