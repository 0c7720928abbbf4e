"""Where benchmark and training data comes from in the workflow: fetched once, or a mirror; and what depends on it."""

import json

import pytest

from references import mirror_root

SOURCES = ("cais/mmlu", "openai/gsm8k")
STUDY = {"select": {"arms": ["base", "colocated", "positional_both"], "benchmarks": ["mmlu", "gsm8k", "mini_arc"]}}
MIXED = {
    "mixture": {"sources": [{"kind": "hub", "dataset": "meta-math/MetaMathQA", "n": 100}], "drop_contaminated": True}
}


@pytest.fixture
def mirror(tmp_path):
    for source in (*SOURCES, "meta-math/MetaMathQA"):
        (tmp_path / "mirror" / source).mkdir(parents=True)
        (tmp_path / "mirror" / source / "test.jsonl").write_text("{}\n")
    return tmp_path / "mirror"


def test_each_data_set_is_fetched_once_for_benchmarks_and_mixtures_alike(checkout):
    checkout.environment.pop("COLOCATE_DATASETS", None)
    checkout.overlay("study", STUDY | MIXED)
    said = checkout.snakemake("-n", "fetch").stdout
    jobs = [line for line in said.splitlines() if line.split()[:1] == ["fetch_benchmark"]]
    for source in (*SOURCES, "meta-math/MetaMathQA"):
        assert sum(source in line and "reason" in line for line in jobs) == 1, said
    everything = checkout.snakemake("-n").stdout
    assert sum("reason" in line for line in everything.splitlines() if line.split()[:1] == ["fetch_benchmark"]) == 3


@pytest.mark.parametrize("how", ["config", "variable"])
def test_a_mirror_is_read_instead(checkout, mirror, how):
    checkout.overlay("study", STUDY | MIXED | ({"datasets_root": str(mirror)} if how == "config" else {}))
    checkout.environment.pop("COLOCATE_DATASETS", None)
    if how == "variable":
        checkout.environment["COLOCATE_DATASETS"] = str(mirror)
    said = checkout.snakemake("-n").stdout
    assert "fetch_benchmark" not in said
    assert "resources/datasets/cais" not in said


def test_what_a_mirror_lacks_is_named(checkout, mirror):
    (mirror / "openai/gsm8k/test.jsonl").unlink()
    (mirror / "openai/gsm8k").rmdir()
    checkout.overlay("study", STUDY | {"datasets_root": str(mirror)})
    done = checkout.snakemake("-n", check=False)
    assert done.returncode
    assert "datasets_root" in done.stdout
    assert "has no data set openai/gsm8k; put it there as" in done.stdout


@pytest.mark.skipif(mirror_root() is None, reason="no benchmark data here: set COLOCATE_DATASETS")
@pytest.mark.slow
def test_the_built_in_data_is_held_against_real_benchmarks(checkout):
    checkout.overlay("study", STUDY | {"datasets_root": str(mirror_root()), "mixture": {"drop_contaminated": True}})
    checkout.snakemake("results/smollm2/mixture/contamination.csv")
    folder = checkout.folder / "results/smollm2/mixture"
    counts = (folder / "contamination_counts.csv").read_text().splitlines()
    assert sum(",cais/mmlu," in line for line in counts) == 3 * len({line.split(",")[0] for line in counts[1:]})
    assert (folder / "dropped.csv").read_text().startswith("item,source,reference,reference_item,ngram\n")
    assert all(json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines())
