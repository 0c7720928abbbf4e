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


def test_jobs_share_cards_only_where_asked_and_empty_cards_come_first(two_cards, monkeypatch):
    monkeypatch.setenv("COLOCATE_GPU_SHARE", "2")
    held = [hold(two_cards) for _ in range(4)]
    cards = [process.stdout.readline().split()[0] for process in held[:1]]
    cards += [process.stdout.readline().split()[0] for process in held[1:]]
    assert sorted(cards) == ["0", "0", "1", "1"]
    fifth = hold(two_cards)
    time.sleep(0.5)
    assert fifth.poll() is None
    for process in (*held, fifth):
        process.kill()
        process.wait()


@pytest.mark.parametrize("said", ["0", "two", "-1"])
def test_a_wrong_share_is_named(two_cards, monkeypatch, said):
    monkeypatch.setenv("COLOCATE_GPU_SHARE", said)
    with pytest.raises(InputError, match=f"COLOCATE_GPU_SHARE: found '{said}'"):
        devices.take_gpu(two_cards)


def test_jobs_of_one_allocation_share_out_its_cards(two_cards, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("COLOCATE_ALLOCATION", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    first, second = hold(two_cards), hold(two_cards)
    assert {first.stdout.readline().strip(), second.stdout.readline().strip()} == {"2 2", "3 3"}
    for process in (first, second):
        process.communicate("")


def test_locks_of_two_allocations_on_a_node_are_apart(two_cards, monkeypatch, tmp_path):
    monkeypatch.setattr(devices.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("COLOCATE_ALLOCATION", "1")
    for job in ("7", "8"):
        monkeypatch.setenv("SLURM_JOB_ID", job)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
        assert devices.take_gpu() == "0"
    assert {path.name[-2:] for path in tmp_path.glob("colocate-gpus-*")} == {"-7", "-8"}


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
    assert devices.cpu_joules() is None
    for package, value in (("intel-rapl:0", 3_000_000), ("intel-rapl:1", 500_000)):
        (tmp_path / package).mkdir()
        (tmp_path / package / "energy_uj").write_text(f"{value}\n")
    assert devices.cpu_joules() == pytest.approx(3.5)


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """An nvidia-smi that answers a query with the line of a file."""
    program = tmp_path / "smi/nvidia-smi"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nq="${{1#--query-gpu=}}"\ncat "{tmp_path}/smi/$q"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    return lambda quantity, text: (program.parent / quantity).write_text(text + "\n")


def test_utilisation_and_energy_of_a_card_are_means_over_the_job(smi):
    smi("utilization.gpu", "40")
    smi("power.draw", "300.00")
    meter = devices.CardMeter(every=0.05).start()
    time.sleep(0.5)
    found = meter.stop()
    assert found["gpu_utilisation"] == 0.4
    assert 300 * 0.45 < found["joules"] < 300 * 2


def test_what_a_card_does_not_count_stays_unknown(smi, monkeypatch):
    smi("utilization.gpu", "[N/A]")
    smi("power.draw", "[N/A]")
    assert devices.CardMeter(every=0.05).start().stop() == {"gpu_utilisation": None, "joules": None}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices.CardMeter().start().stop() == {"gpu_utilisation": None, "joules": None}


def test_memory_is_that_of_the_smallest_card(smi, monkeypatch):
    smi("memory.total", "81559\n24576")
    assert devices.card_memory_mib() == 24576
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices.card_memory_mib() is None
