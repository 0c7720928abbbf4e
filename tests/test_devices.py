"""Cards are shared out one a process outside SLURM; a card is free again when its process ends."""

import os
import subprocess
import sys
import textwrap
import time

import pytest

from colocate import devices
from colocate.errors import InputError


@pytest.fixture
def two_cards(tmp_path, monkeypatch):
    """A machine with two cards: an nvidia-smi that lists them."""
    program = tmp_path / "bin/nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nprintf '0\\n1\\n'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    return tmp_path / "locks"


def hold(folder, cards: int = 1) -> subprocess.Popen:
    """A process that takes cards, says which, and keeps them until its input is closed."""
    code = f"""
        import os, sys
        from pathlib import Path
        from colocate import devices
        card = devices.take_gpu(Path({str(folder)!r}), poll_seconds=0.05, cards={cards})
        print(card, os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
        sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_each_process_gets_a_card_of_its_own_and_the_next_one_waits(two_cards):
    first, second = hold(two_cards), hold(two_cards)
    cards = {first.stdout.readline().strip(), second.stdout.readline().strip()}
    assert cards == {"0 0", "1 1"}
    third = hold(two_cards)
    time.sleep(0.5)
    assert third.poll() is None
    first.kill()  # however it ends, its card is free
    first.wait()
    assert third.stdout.readline().strip() in cards
    for process in (second, third):
        process.communicate("")
        assert process.returncode == 0


def test_a_job_of_two_cards_gets_both_or_waits_and_holds_none(two_cards):
    first, both = hold(two_cards), None
    try:
        assert first.stdout.readline().strip() in {"0 0", "1 1"}
        both = hold(two_cards, cards=2)
        second = hold(two_cards)  # the card that is free is not held by the one that waits for two
        assert second.stdout.readline().strip() in {"0 0", "1 1"}
        assert both.poll() is None
        for process in (first, second):
            process.communicate("")
        assert both.stdout.readline().strip() == "0,1 0,1"
    finally:
        for process in filter(None, (first, both)):
            process.kill()
            process.wait()


def test_more_cards_than_there_are_is_an_error_not_a_wait_for_ever(two_cards):
    with pytest.raises(InputError, match=r"models.\*.gpus: found 3, but this machine has 2"):
        devices.take_gpu(two_cards, cards=3)


def test_inside_slurm_the_scheduler_has_chosen(two_cards, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert devices.take_gpu(two_cards) is None
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_cards_that_are_hidden_are_not_taken(two_cards, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert devices.list_gpus() == ["1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices.list_gpus() == []
    assert devices.take_gpu(two_cards) is None


def test_peak_memory_is_that_of_the_process_in_mib():
    code = """
        from colocate import devices
        before = devices.peak_memory_mib()["cpu"]
        block = bytearray(64 * 2**20)
        block[::4096] = b"x" * len(block[::4096])
        del block
        print(devices.peak_memory_mib()["cpu"] - before)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert 60 < float(done.stdout) < 80


def test_energy_counters_are_read_where_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "RAPL", tmp_path)
    assert devices.joules() is None
    for package, value in (("intel-rapl:0", 3_000_000), ("intel-rapl:1", 500_000)):
        (tmp_path / package).mkdir()
        (tmp_path / package / "energy_uj").write_text(f"{value}\n")
    assert devices.joules() == pytest.approx(3.5)
