"""Measure one layer profile of a twin: the same architecture with random weights, or with its layers shuffled."""

from colocate import files, models, profiles, twins
from colocate.profiles.data import read_data
from colocate.provenance import Job

with Job(__doc__, inputs="model geometry pairs* paraphrases texts", outputs="profile run") as job:
    settings, chosen = job.settings, job.settings["profile"]
    place = files.read_json(job.input.geometry)
    tokenizer = models.load_tokenizer(job.input.model.parent)
    data = read_data(job.input.pairs, job.input.paraphrases, settings["limit"], job.input.texts)
    # A twin's weights are drawn or moved, so they are plain ones: that of a 4-bit model has what it computes in.
    dtype = models.NF4.get(loaded := profiles.dtype_of(chosen, place["dtype"]), loaded)
    model = twins.load_twin(job.input.model.parent, settings["twin"], dtype, place["device"])
    measured = profiles.compute(chosen["metric"], model, tokenizer, chosen, data, job.progress)
    files.write_csv(job.out.profile, measured.profile)
    job.record.update(device=place["device"], dtype=dtype)
