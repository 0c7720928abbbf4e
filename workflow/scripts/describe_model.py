"""Record a model's geometry, and the device and precision that this study uses: what later jobs load it with."""

from colocate import files, geometry, models
from colocate.provenance import Job

with Job(__doc__, inputs="model", outputs="geometry run") as job:
    settings = job.settings
    found = geometry.read_geometry(job.input.model.parent)
    geometry.check_geometry(found, settings["geometry"], f"{job.input.model.parent}/config.json")
    device = models.resolve_device(settings["device"])
    dtype = models.resolve_dtype(settings["dtype"], device, found["checkpoint_dtype"])
    files.write_json(job.out.geometry, found | {"device": device, "dtype": dtype})
    job.record.update(device=device, dtype=dtype)
