"""The RO-Crate of a run, read again: its profile is kept, digests are right, nothing private is inside."""

import zipfile

import pytest

from colocate import crate
from colocate.errors import InputError
from colocate.files import sha256, write_text

ENVIRONMENT = {
    "versions": {"numpy": ["2.4.6"], "torch": ["2.12.0", "2.13.0"]},
    "begin": "1970-01-12T13:45:00+00:00",
    "end": "1970-01-12T13:55:00+00:00",
}


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("Snakefile", "workflow/rules/train.smk", "results/toy/config.yaml", "data/pairs/tasks.jsonl"):
        write_text(name, f"content of {name}\n")
    write_text("results/toy/mixture/train.jsonl", "CANARY\n")
    write_text("results/toy/tiny/evaluations/base/seed0/gpqa.items.parquet", "CANARY\n")
    write_text("results/toy/compute.csv", "rule\ntrain_arm\n")
    write_text("reports/toy.html", "<!doctype html>")
    return tmp_path


OUTPUTS = [
    "reports/toy.html",
    "results/toy/compute.csv",
    "results/toy/mixture/train.jsonl",
    "results/toy/tiny/evaluations/base/seed0/gpqa.items.parquet",
]


def describe(**changes):
    values = {
        "workflow": ["Snakefile", "workflow/rules/train.smk"],
        "inputs": ["results/toy/config.yaml", "data/pairs/tasks.jsonl"],
        "outputs": OUTPUTS,
        "environment": ENVIRONMENT,
    }
    crate.describe("toy-crate.zip", "toy", **(values | changes))


@pytest.fixture
def read(checkout):
    from rocrate.rocrate import ROCrate

    describe()
    return ROCrate("toy-crate.zip")


def ids(entities) -> list[str]:
    return [entity.id for entity in entities]


def test_it_conforms_to_the_workflow_run_profile(read):
    assert {entity.id for entity in read.root_dataset["conformsTo"]} >= set(crate.PROFILES)
    for required in ("name", "description", "license", "datePublished", "mainEntity", "hasPart"):
        assert read.root_dataset.get(required), required
    main = read.mainEntity
    assert main.id == "Snakefile"
    assert set(main.type) == {"File", "SoftwareSourceCode", "ComputationalWorkflow"}
    assert main["programmingLanguage"].id.endswith("#snakemake")
    assert main["programmingLanguage"]["version"].split(".")[0] == "9"


def test_the_run_has_its_instrument_inputs_outputs_and_times(read):
    [action] = read.get_by_type("CreateAction")
    assert action in read.root_dataset["mentions"]
    assert action["instrument"] is read.mainEntity
    assert ids(action["object"]) == ["results/toy/config.yaml", "data/pairs/tasks.jsonl"]
    assert ids(action["result"]) == OUTPUTS[:2] + [f"#{path}" for path in OUTPUTS[2:]]
    assert action["startTime"] == ENVIRONMENT["begin"]
    assert action["endTime"] == ENVIRONMENT["end"]
    assert action.get("agent") is None


def test_every_file_has_its_digest_and_size_and_own_text_comes_along(read, checkout):
    [action] = read.get_by_type("CreateAction")
    with zipfile.ZipFile("toy-crate.zip") as archive:
        inside = set(archive.namelist())
        assert all(b"CANARY" not in archive.read(name) for name in inside)
    for entity in [*action["object"], *action["result"], *read.mainEntity["hasPart"], read.mainEntity]:
        path = checkout / entity.id.removeprefix("#")
        assert entity["sha256"] == sha256(path)
        assert entity["contentSize"] == str(path.stat().st_size)
        assert (entity.id in inside) == (not entity.id.startswith("#"))
    assert "ro-crate-metadata.json" in inside


def test_software_has_all_versions_that_ran(read):
    software = {entity["name"]: entity["softwareVersion"] for entity in read.get_by_type("SoftwareApplication")}
    assert software == {"torch": "2.12.0, 2.13.0", "numpy": "2.4.6"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"outputs": ["reports/absent.html"]}, "reports/absent.html: no such file"),
        ({"inputs": ["/etc/hostname"]}, "not a path inside the checkout"),
        ({"inputs": ["../outside.csv"]}, "not a path inside the checkout"),
    ],
)
def test_what_cannot_be_described_is_named(checkout, changes, message):
    with pytest.raises(InputError, match=message):
        describe(**changes)
    assert not (checkout / "toy-crate.zip").exists()


def test_outputs_are_those_of_the_selection(tmp_path):
    results = tmp_path / "results/toy"
    kept = [
        "compute.csv",
        "environment.json",
        "mixture/train.jsonl",
        "tiny/geometry.json",
        "tiny/figures/heatmap.svg",
        "tiny/profiles/rope_output.csv",
        "tiny/adapters/random/seed1/manifest.json",
        "tiny/evaluations/random/seed1/mini_arc.items.parquet",
        "tiny/evaluations/random/seed1/mini_arc.json",
        "tiny/evaluations/random/seed1/neutral_kl.csv",
        "tiny/statistics/contrasts.csv",
    ]
    left_out = [
        "config.yaml",  # an input
        "tiny/profiles/earlier.csv",
        "tiny/evaluations/random/seed1/mini_arc.run.json",
        "tiny/evaluations/random/seed2/mini_arc.json",
        "tiny/evaluations/dropped/seed1/mini_arc.json",
        "tiny/adapters/random/seed2/manifest.json",
        "other/geometry.json",
    ]
    for name in kept + left_out:
        write_text(results / name, "{}")
    select = {"profile": ["rope_output"], "arm": ["random"], "run": ["random/seed1"], "benchmark": ["mini_arc"]}
    found = crate.outputs(results, {"tiny": select})
    assert [path.relative_to(results).as_posix() for path in found] == sorted(kept)
