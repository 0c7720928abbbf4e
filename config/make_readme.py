"""Write config/README.md: an introduction, and every key out of the schema. Run after a change of the schema."""

from pathlib import Path

from colocate import config_schema, files

INTRODUCTION = """\
# Configuration

`config.yaml` is the default study. `models`, `profiles`, `layer_sets`, `arms` and `benchmarks` are catalogues; `select`
says what a study runs. An overlay changes or adds keys:

    snakemake --cores all --configfile config/config.yaml config/ci.yaml

Dictionaries are merged, lists are replaced. The schema (`workflow/schemas/config.schema.yaml`) is closed: an unknown
key, a wrong type or a null stops the workflow before any job, with the key, its file and line, what was found and what
is allowed. Each rule reruns exactly when a key that it uses changes.

Your own model is one more entry of `models` (a hub id with its revision, or a folder) and its name in
`select.models`; your own training data is one more entry of `mixture.sources`.

Off by default, each by a key of its own: learning rates tuned for every arm on validate (`training.tuning`), what each
layer gains by training (`select.layer_gain`; `gain.yaml` is that study for SmolLM2), random and shuffled twins
(`twins`), pairs made from benchmarks or by the model itself (`pairs.made`, and `pairs: made` in a profile), a released
fine-tune to compare with (`models.NAME.released`), DoRA, rsLoRA and LoRA+ (`training.lora.variant`,
`training.lora_plus_ratio`, or per arm). `make suggest MODEL=... DATA=my.jsonl` writes and runs a short study of your
own.

## Every key

`NAME` stands for a name of your choice. This table is written by `python config/make_readme.py` from the schema.

"""

if __name__ == "__main__":
    files.write_text(Path(__file__).with_name("README.md"), INTRODUCTION + config_schema.reference_table())
