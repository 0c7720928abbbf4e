"""Record a model's geometry, and the device and precision that this study uses: what later jobs load it with.

Refuses a model whose layers can never give what the arms ask of them.
"""

from colocate import files, geometry, layer_checks, models
from colocate.errors import InputError
from colocate.provenance import Job

with Job(__doc__, inputs="model arms?", outputs="geometry run") as job:
    settings = job.settings
    found = geometry.read_geometry(job.input.model.parent)
    geometry.check_geometry(found, settings["geometry"], f"{job.input.model.parent}/config.json")
    arms = files.read_json(job.input.arms) if job.input.arms and job.input.arms.is_file() else {}
    if refused := layer_checks.refused(arms.get(job.input.model.parent.name, []), found):
        raise InputError("\n".join(f"config: {key}: {said}" for key, said in refused))
    device = models.resolve_device(settings["device"])
    dtype = models.resolve_dtype(settings["dtype"], device, found["checkpoint_dtype"])
    files.write_json(job.out.geometry, found | {"device": device, "dtype": dtype})
    job.record.update(device=device, dtype=dtype)
