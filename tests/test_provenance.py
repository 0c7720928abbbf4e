"""A job's outputs appear whole or not at all; its record, log and progress."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from colocate import compute
from colocate.errors import InputError
from colocate.files import read_json, replacing, write_json
from colocate.provenance import GARBAGE, ProgressBar

SCRIPT = '''"""Copy a text."""
import gc, sys, time
from colocate.errors import InputError
from colocate.provenance import Job

with Job(__doc__, inputs="text extra*", outputs="first second run") as job:
    print("from a library")
    print("garbage is collected:", gc.isenabled(), "every", gc.get_threshold()[0])
    job.out.first.write_text(job.input.text.read_text())
    if job.settings.get("fail"):
        raise InputError("text.txt: line 1: found x; allowed: y")
    if job.settings.get("break"):
        raise RuntimeError("boom")
    time.sleep(job.settings.get("sleep", 0))
    if job.settings.get("break_late"):
        raise RuntimeError("its folder is gone")
    job.out.second.mkdir()
    (job.out.second / "part").write_text("part")
    job.record["tokens"] = 7

print("after the job")
if job.settings.get("break_after"):
    raise RuntimeError("boom")
import atexit
atexit.register(print, "at the end")  # of what was loaded after the job began
class Slow:
    def __del__(self):
        print("taken apart")
kept = Slow()
'''


@pytest.fixture
def start(tmp_path):
    script = tmp_path / "scripts/copy.py"
    script.parent.mkdir()
    script.write_text(SCRIPT)
    (tmp_path / "text.txt").write_text("new")

    def run(**settings):
        names = {
            "text": "text.txt",
            "first": "out/first",
            "second": "out/second",
            "run": "out/run.json",
            "log": "log/x.log",
        }
        options = [part for name, path in names.items() for part in (f"--{name}", str(tmp_path / path))]
        command = [sys.executable, script, *options, "--settings", json.dumps(settings), "--label", "one"]
        return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    return run


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_delivered_job_ends_without_taking_its_libraries_apart(start, tmp_path):
    process = start()
    process.communicate()
    assert process.returncode == 0
    assert (tmp_path / "log/x.log").read_text().splitlines()[-2:] == ["after the job", "at the end"]


def test_a_failure_after_the_job_is_a_failure(start, tmp_path):
    process = start(break_after=True)
    process.communicate()
    assert process.returncode == 1
    assert "RuntimeError: boom" in (tmp_path / "log/x.log").read_text()
    assert (tmp_path / "out/first").exists()


def test_outputs_log_and_record(start, tmp_path):
    out, err = start().communicate()
    assert (out, err) == ("", "")
    assert (tmp_path / "out/first").read_text() == "new"
    assert files_in(tmp_path / "out") == ["first", "run.json", "second"]
    log = (tmp_path / "log/x.log").read_text()
    assert "from a library" in log
    assert f"garbage is collected: True every {GARBAGE[0]}" in log
    record = read_json(tmp_path / "out/run.json")
    assert record["rule"] == "copy"
    assert record["tokens"] == 7
    assert record["seconds"] >= 0
    assert record["peak_memory_mib"]["cpu"] > 5
    assert set(record["outputs_sha256"]) == {"first"}


def test_a_job_that_declares_no_record_leaves_it_beside_its_log(tmp_path):
    script = tmp_path / "draw.py"
    script.write_text(
        'from colocate.provenance import Job\nwith Job("", outputs="out") as job:\n    job.out.out.write_text("x")\n'
    )
    command = [sys.executable, script, "--out", tmp_path / "out/a.b.svg", "--label", "a b"]
    subprocess.run([*command, "--log", tmp_path / "log/m.1/a.log"], check=True)
    assert files_in(tmp_path / "log/m.1") == ["a.log", "a.run.json"]
    assert files_in(tmp_path / "out") == ["a.b.svg"]
    record = read_json(tmp_path / "log/m.1/a.run.json")
    assert (record["rule"], record["label"], record["threads"]) == ("draw", "draw a b", 1)
    assert set(record["outputs_sha256"]) == {"out"}
    subprocess.run(command, check=True)  # by hand, without a log: no record
    assert files_in(tmp_path) == ["draw.py", "log", "out"]


@pytest.mark.parametrize(
    ("how", "why"), [("fail", "text.txt: line 1: found x; allowed: y"), ("break", "RuntimeError: boom")]
)
def test_an_error_leaves_old_outputs_alone_and_says_why(start, tmp_path, how, why):
    start().communicate()
    (tmp_path / "text.txt").write_text("newer")
    process = start(**{how: True})
    _, err = process.communicate()
    assert process.returncode == 1
    assert err == f"copy one: ERROR: {why}\n"
    assert (tmp_path / "out/first").read_text() == "new"
    assert files_in(tmp_path / "out") == ["first", "run.json", "second"]
    log = (tmp_path / "log/x.log").read_text()
    assert log.endswith(f"ERROR: {why}\n")
    assert "Traceback" in log


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.02)


def test_a_terminated_job_leaves_nothing_and_a_killed_one_is_cleaned_up_by_the_next(start, tmp_path):
    process = start(sleep=60)
    wait_for(lambda: any(name.endswith(".first") for name in files_in(tmp_path / "out")))
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert files_in(tmp_path / "out") == []
    process = start(sleep=60)
    wait_for(lambda: any(name.endswith(".first") for name in files_in(tmp_path / "out")))
    process.kill()
    process.communicate()
    assert files_in(tmp_path / "out") != []
    start().communicate()
    assert files_in(tmp_path / "out") == ["first", "run.json", "second"]


@pytest.mark.parametrize("ending", ["delivers", "breaks", "is terminated"])
def test_an_old_attempt_neither_overwrites_a_newer_one_nor_fails_after_it(start, tmp_path, ending):
    """Were the old attempt to fail, the Snakemake around it would delete what the newer one delivered."""
    old = start(**{"sleep": 3} | ({"break_late": True} if ending == "breaks" else {}))
    wait_for(lambda: any(name.endswith(".first") for name in files_in(tmp_path / "out")))
    (tmp_path / "text.txt").write_text("newest")
    assert start().wait() == 0
    if ending == "is terminated":
        old.send_signal(signal.SIGTERM)
    old.communicate()
    assert old.returncode == 0
    assert "a newer attempt has delivered" in (tmp_path / "log/x.log").read_text()
    assert (tmp_path / "out/first").read_text() == "newest"
    assert files_in(tmp_path / "out") == ["first", "run.json", "second"]


def test_an_old_attempt_fails_while_the_newer_one_has_not_delivered(start, tmp_path):
    old = start(sleep=2)
    wait_for(lambda: any(name.endswith(".first") for name in files_in(tmp_path / "out")))
    token = (tmp_path / "out/.first.owner").read_text()
    newer = start(sleep=60)
    try:
        wait_for(lambda: (tmp_path / "out/.first.owner").read_text() not in ("", token))
        _, err = old.communicate()
        assert old.returncode == 1
        assert "a newer attempt owns this output" in err
    finally:
        newer.kill()
        newer.communicate()


def test_progress_is_one_line_in_a_while():
    stream = io.StringIO()
    bar = ProgressBar("train_arm colocated seed 0", stream, every=0.0)
    bar(0.5, "loss 1.93")
    bar(1.0)
    assert stream.getvalue().startswith("train_arm colocated seed 0  [##########..........]  50%  loss 1.93  ")
    assert stream.getvalue().count("\n") == 1


def test_files_are_replaced_whole_and_readable_by_others(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"b": 1, "a": [1.5]})
    assert path.read_text() == '{\n "a": [\n  1.5\n ],\n "b": 1\n}\n'
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()
    with pytest.raises(ZeroDivisionError), replacing(path) as private:
        private.write_text(f"half {1 / 0}")
    assert read_json(path) == {"a": [1.5], "b": 1}
    assert files_in(tmp_path) == ["a.json"]
    with pytest.raises(ValueError, match="nan"):
        write_json(path, {"a": float("nan")})


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_cost_of_a_job_is_its_time_on_a_card_or_on_its_threads(tmp_path):
    records = []
    for name, extra in {"a": {"device": "cuda"}, "b": {"device": "cpu"}}.items():
        base = {"rule": name, "seconds": 1800, "threads": 4, "peak_memory_mib": {"cpu": 10.0, "gpu": None}}
        write_json(tmp_path / name, base | extra)
        records.append(tmp_path / name)
    table = compute.collect(records, {"gpu_hour": 3.0, "cpu_hour": 0.1, "currency": "EUR"})
    assert table["cost"].tolist() == pytest.approx([1.5, 0.2])
    assert table["currency"].tolist() == ["EUR", "EUR"]
    assert compute.model_of("resources/models/a.b.run.json") == "a.b"
    assert compute.model_of("results/study/a.b/adapters/arm/seed0/train.run.json") == "a.b"
    write_json(tmp_path / "c", {"rule": "x"})
    with pytest.raises(InputError, match="c: not a run record: key seconds"):
        compute.collect([tmp_path / "c"], {"gpu_hour": 1, "cpu_hour": 1, "currency": "EUR"})
