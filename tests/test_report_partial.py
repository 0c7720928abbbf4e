"""The report on an unfinished study: with each kind of result removed in turn the rest stands, what is missing is
named, and nothing in the folder of results is touched.
"""

import re
import shutil
from pathlib import Path

import lxml.html
import pytest
import yaml

import item_level
import synthetic
from colocate import config_schema, figures
from colocate.errors import InputError
from colocate.files import write_json, write_text
from colocate.report import partial
from colocate.results import load_inputs

CONFIG = item_level.CONFIG | {
    "select": {
        "models": [synthetic.MODEL],
        "profiles": synthetic.PROFILES,
        "arms": synthetic.ARMS,
        "benchmarks": list(synthetic.BENCHMARKS),
        "layer_gain": [],
        "arm_profiles": [],
    },
    "arms": {arm: {"lora": arm} if arm != "base" else {} for arm in synthetic.ARMS},
    "layer_sets": {arm: {"layers": [place]} for place, arm in enumerate(synthetic.ARMS)},
    "models": {synthetic.MODEL: {}},
    "seeds": list(synthetic.SEEDS),
    "training": config_schema.with_defaults({}, config_schema.load()["properties"]["training"], {}),
    "prices": {"gpu_hour": 2.5, "cpu_hour": 0.04, "currency": "USD"},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("partial")
    study = synthetic.make_study(root)
    item_level.write_items(study / synthetic.MODEL)
    for arm in synthetic.ARMS[1:]:
        for seed in synthetic.SEEDS:
            write_json(study / synthetic.MODEL / f"adapters/{arm}/seed{seed}/manifest.json", {})
    inputs = load_inputs(study / synthetic.MODEL, select=item_level.SELECT)
    for name in figures.FIGURES:
        figures.save(figures.draw(name, inputs), study / synthetic.MODEL / f"figures/{name}.svg")
    record = {"rule": "profile_layers", "label": "x", "threads": 1, "seconds": 1.0, "versions": {}}
    for path in study.rglob("*.run.json"):
        path.unlink()
    record |= {"peak_memory_mib": {"cpu": 1.0, "gpu": None}}
    write_json(study / synthetic.MODEL / "profiles/rope_output.run.json", record)
    write_text(study / "config.yaml", yaml.safe_dump(CONFIG))
    return root


@pytest.fixture
def root(made, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(made, tmp_path / "checkout")


def report(root) -> str:
    page = lxml.html.fromstring(partial.write_partial(synthetic.STUDY, root).read_text(encoding="utf-8"))
    for script in page.xpath("//script | //style"):
        script.drop_tree()
    return re.sub(r"\s+", " ", page.text_content())


def rows(root) -> dict[str, list[str]]:
    folder = root / "results" / synthetic.STUDY
    table = partial.progress(CONFIG, folder, root / "logs" / synthetic.STUDY)
    return {row[0].removeprefix(f"{synthetic.MODEL}: "): row[1:] for row in table.rows}


REMOVED = {  # what is removed -> the row of the table that falls short
    "profiles/sensitivity_all.*": "layer profiles",
    "profiles/rope_*": "layer profiles",
    "adapters/mid_block": "trained arms",
    "evaluations/colocated": "evaluations",
    "evaluations/*/seed1": "evaluations",
    "evaluations": "evaluations",
    "statistics": "statistics",
    "statistics/contrasts.csv": "statistics",
    "statistics/correlations.csv": "statistics",
    "statistics/claims.csv": "statistics",
    "arms": None,
    "layer_sets": None,
    "geometry.json": None,
    "../compute.csv": None,
    "../mixture": None,
    "../reanalysis.csv": None,
}


@pytest.mark.parametrize("pattern", REMOVED)
def test_without_one_kind_of_result_the_rest_stands(root, pattern):
    folder = root / "results" / synthetic.STUDY / synthetic.MODEL
    inside = folder.parent if pattern.startswith("../") else folder
    found = list(inside.glob(pattern.removeprefix("../")))
    assert found
    for path in found:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    text = report(root)
    assert "This study is not finished." in text
    assert "made-up-model" in text
    short = [name for name, (there, *_) in rows(root).items() if len(set(there.split(" of "))) > 1]
    assert short == ([REMOVED[pattern]] if REMOVED[pattern] else [])


def test_only_a_finished_study_links_to_what_is_made_after_it(root, made):
    page = lxml.html.fromstring(partial.write_partial(synthetic.STUDY, root).read_text(encoding="utf-8"))
    assert not [address for address in page.xpath("//a/@href") if address.endswith(".zip")]
    rules = page.xpath("//table[caption='Rules fixed before the run']//th[@scope='row']")
    assert len(rules) == 0  # this checkout has none
    for name in ("claims.csv", "specification.yaml"):
        write_text(root / "data/published" / name, (synthetic.SPECIFICATION.parent / name).read_text())
    default = Path(__file__).resolve().parents[1] / "config/config.yaml"
    write_text(root / "config/config.yaml", default.read_text())
    text = report(root)
    assert "specification.yaml" in text
    assert "The default configuration was not given" not in text


def test_figures_are_drawn_of_what_there_is(root):
    folder = root / "results" / synthetic.STUDY / synthetic.MODEL
    for name in ("figures", "statistics", "evaluations/mid_block", "adapters/mid_block"):
        shutil.rmtree(folder / name)
    page = lxml.html.fromstring(partial.write_partial(synthetic.STUDY, root).read_text(encoding="utf-8"))
    assert len(page.xpath("//figure//svg")) >= len(figures.FIGURES) - 1
    assert not (folder / "figures").exists()
    small = "Small study: made-up-model, 135 M parameters (weights that were quantised to Q4_1, Q8_0), one model; all"
    assert all(small in " ".join(svg.itertext()) for svg in page.xpath("//figure//svg"))


def test_missing_arms_are_named_and_a_failed_one_with_its_error(root):
    folder = root / "results" / synthetic.STUDY / synthetic.MODEL
    shutil.rmtree(folder / "adapters/mid_block")
    log = root / f"logs/{synthetic.STUDY}/train_arm/{synthetic.MODEL}/mid_block/seed1.log"
    write_text(log, "step 1\nTraceback\nERROR: the loss is not finite at step 12\n")
    there, missing, failed = rows(root)["trained arms"]
    assert there == "12 of 14"
    assert missing == "mid_block/seed0"
    assert failed == "mid_block/seed1: the loss is not finite at step 12"
    assert "the loss is not finite at step 12" in report(root)


def test_a_job_that_is_tried_again_has_not_failed(root):
    shutil.rmtree(root / "results" / synthetic.STUDY / synthetic.MODEL / "adapters/mid_block")
    log = root / f"logs/{synthetic.STUDY}/train_arm/{synthetic.MODEL}/mid_block/seed1.log"
    write_text(log, "ERROR: an earlier one\nstep 1\n")
    assert rows(root)["trained arms"][2] == "none"


def test_nothing_but_the_page_is_written(root):
    shutil.rmtree(root / "results" / synthetic.STUDY / synthetic.MODEL / "statistics")
    before = {path: path.lstat().st_mtime_ns for path in root.rglob("*")}
    page = partial.write_partial(synthetic.STUDY, root)
    after = {path: path.lstat().st_mtime_ns for path in root.rglob("*")}
    assert set(after) - set(before) == {page, page.parent}
    assert {path: after[path] for path in before} == before


def test_a_file_that_is_being_written_is_not_read(root):
    folder = root / "results" / synthetic.STUDY / synthetic.MODEL
    write_text(folder / "evaluations/base/seed0/.abcd1234.mini_arc.json", "{half")
    (folder / "evaluations/base/seed0/.abcd1234.mini_arc.json").rename(folder / "profiles/.rope_output.csv.xyz")
    assert "made-up-model" in report(root)


def test_the_bill_is_made_of_the_jobs_that_have_ended(root):
    (root / "results" / synthetic.STUDY / "compute.csv").unlink()
    assert "all jobs" in report(root)


def test_a_study_that_has_not_begun_names_those_that_have(root):
    with pytest.raises(InputError, match=r"absent/config.yaml: no such file; studies that have begun here: synthetic"):
        partial.write_partial("absent", root)
    assert partial.latest(root) == synthetic.STUDY
    with pytest.raises(InputError, match="no study has begun here"):
        partial.latest(root / "results")
