"""Training is deterministic, and a killed run goes on bit-equal."""

import itertools
import os
import signal

import pytest
import torch

from colocate import checkpoints
from colocate.errors import InputError
from toy_training import arm, read, run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def trained(tiny_llama, mixture, tmp_path_factory):
    return run(tiny_llama, mixture, tmp_path_factory.mktemp("trained"))


def test_a_seed_decides_everything(tiny_llama, mixture, trained, tmp_path):
    again, _ = run(tiny_llama, mixture, tmp_path, "again")
    other, _ = run(tiny_llama, mixture, tmp_path, "other", seed=1)
    assert read(again) == read(trained[0])
    assert (other / "adapter_model.safetensors").read_bytes() != (again / "adapter_model.safetensors").read_bytes()


RESOLVED = {"lora": (2, 3), "garfa": (1,), "dropout": 0.3}  # dropout draws random numbers in every step


@pytest.fixture(scope="module")
def whole(tiny_llama, mixture, tmp_path_factory):
    """The files of runs that nothing interrupted, without and with a prefix cache."""
    folder = tmp_path_factory.mktemp("whole")
    resolved = arm(tiny_llama, **RESOLVED)
    return [read(run(tiny_llama, mixture, folder, str(gib), resolved, prefix_cache_gib=gib)[0]) for gib in (0, 1)]


def die(monkeypatch, moment: str, number: int):
    """Kill this process after its step `number`, or in the midst of writing its checkpoint `number`.

    Returns the progress callback to use.
    """
    steps, writes, save = itertools.count(1), itertools.count(1), torch.save

    def half_written(state, file):
        save(state, file)
        if moment == "write" and next(writes) == number:
            file.write_bytes(file.read_bytes()[:1000])
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(torch, "save", half_written)
    return lambda *_: os.kill(os.getpid(), signal.SIGKILL) if moment == "step" and next(steps) == number else None


@pytest.mark.parametrize(
    ("moment", "number", "gib", "done"),
    [("step", 1, 0, 0), ("step", 3, 0, 2), ("step", 4, 0, 4), ("step", 5, 1, 4), ("step", 7, 0, 7)]
    + [("write", 1, 0, 0), ("write", 3, 0, 4), ("write", 3, 1, 4), ("write", 4, 0, 6)],
)
def test_a_killed_run_goes_on_bit_equal(tiny_llama, mixture, tmp_path, whole, monkeypatch, moment, number, gib, done):
    """SIGKILL before the first checkpoint, between two, on one, after the last step, and while one is written."""
    resolved = arm(tiny_llama, **RESOLVED)
    child = os.fork()
    if child == 0:
        progress = die(monkeypatch, moment, number)
        run(tiny_llama, mixture, tmp_path, "killed", resolved, progress=progress, prefix_cache_gib=gib)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert list((tmp_path / "killed").iterdir()) == []
    kept = [path.name for path in (tmp_path / "killed-scratch").iterdir()]
    assert (checkpoints.NAME in kept) == (done > 0)
    assert len(kept) == (done > 0) + (moment == "write")  # half a checkpoint has a private name
    (tmp_path / "killed").rmdir()
    steps = []
    progress = lambda *_: steps.append(1)  # noqa: E731
    resumed, _ = run(tiny_llama, mixture, tmp_path, "killed", resolved, progress=progress, prefix_cache_gib=gib)
    assert len(steps) == 7 - done
    assert read(resumed) == whole[gib]


def test_a_checkpoint_of_another_run_is_refused(tiny_llama, mixture, tmp_path):
    run(tiny_llama, mixture, tmp_path, "a", max_tokens=400)
    (tmp_path / "a").rename(tmp_path / "first")
    with pytest.raises(InputError, match=r"checkpoint.pt: belongs to another arm, seed or settings"):
        run(tiny_llama, mixture, tmp_path, "a", max_tokens=400, seed=1)


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer, path = torch.optim.AdamW([parameter]), tmp_path / checkpoints.NAME
    checkpoints.keep(path, "key", {"w": parameter}, optimizer, 3, [], [])
    before = path.read_bytes()

    def fail(state, file):
        file.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        checkpoints.keep(path, "key", {"w": parameter}, optimizer, 4, [], [])
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [checkpoints.NAME]
