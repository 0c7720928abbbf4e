"""Turn a rule into a set of layers: the canonical file that arms are made from."""

import pandas as pd

from colocate import files, layer_sets
from colocate.profiles.noise_floor import check_resolved
from colocate.provenance import Job

with Job(__doc__, inputs="geometry profile* variants* sets*", outputs="layer_set") as job:
    name, rule = job.settings["name"], job.settings["rule"]
    geometry = files.read_json(job.input.geometry)
    profile = None
    if job.input.profile:
        table = pd.read_csv(job.input.profile[0])
        profile = dict(zip(table["layer"].tolist(), table["value"].tolist(), strict=True))
    for path in job.input.variants:
        check_resolved(pd.read_parquet(path), rule["by"])
    sets = {path.stem: files.read_json(path)["layers"] for path in job.input.sets}
    layers = layer_sets.select(name, rule, geometry["n_layers"], profile, sets)
    files.write_json(job.out.layer_set, {"name": name, "rule": rule, "layers": layers})
