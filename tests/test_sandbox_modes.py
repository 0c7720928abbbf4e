"""The sandbox's modes, and its system-call filter: what can be checked on any machine."""

import pytest

from colocate.errors import InputError
from colocate.evaluation import sandbox, seccomp
from colocate.evaluation.sandbox import Limits


def test_without_bubblewrap_nothing_runs_and_the_message_helps(monkeypatch):
    monkeypatch.setattr(sandbox, "_candidates", lambda: ["/bin/false"])
    sandbox._bubblewrap.cache_clear()
    try:
        ready, reason = sandbox.available()
        assert not ready
        for part in ("/bin/false", "Install bubblewrap", "none-accept-risk"):
            assert part in reason
        with pytest.raises(InputError, match="no sandbox"):
            sandbox.run("print(1)")
    finally:
        sandbox._bubblewrap.cache_clear()


def test_accepted_risk_runs_with_limits_only():
    with sandbox.use("none-accept-risk"):
        assert sandbox.available()[0]
        assert sandbox.run("print(1)").passed
        assert sandbox.run("x = bytearray(2 * 2**30)").reason == "MemoryError"
        assert sandbox.run("while True: pass", Limits(seconds=1)).reason == "stopped after 1 s of processor time"
        assert sandbox.run("import time; time.sleep(9)", Limits(seconds=1)).reason == "stopped after 1 s asleep"
        assert sandbox.run("import sys; sys.exit(0)").reason == "ended before its last line"
        assert sandbox.run("def f(): return 1", tests="assert f() == 1", functions=("f",)).passed
        cheat = "class X:\n    def __eq__(self, other): return True\ndef f(): return X()"
        assert not sandbox.run(cheat, tests="assert f() == 1", functions=("f",)).passed


def test_unknown_modes_are_refused():
    with pytest.raises(InputError, match="auto, bubblewrap, none-accept-risk"), sandbox.use("docker"):
        pass


@pytest.mark.parametrize("machine", sorted(seccomp.TABLES))
def test_filter_jumps_stay_inside_and_every_path_returns(machine):
    """Interpret the filter as the kernel would, for every refused call, for clone and for an allowed one."""
    table = seccomp.TABLES[machine]
    code = seccomp.program(machine)
    instructions = [seccomp.struct.unpack_from("<HBBI", code, offset) for offset in range(0, len(code), 8)]

    def answer(number: int, flags: int = 0, arch: int = table["arch"]) -> int:
        data = {seccomp.NUMBER: number, seccomp.ARCH: arch, seccomp.FIRST_ARGUMENT: flags}
        place, register = 0, 0
        while True:
            operation, true, false, constant = instructions[place]
            place += 1
            if operation == seccomp.LOAD:
                register = data[constant]
            elif operation == seccomp.RETURN:
                return constant
            else:
                test = {
                    seccomp.JUMP_EQUAL: register == constant,
                    seccomp.JUMP_AT_LEAST: register >= constant,
                    seccomp.JUMP_ANY_BIT: bool(register & constant),
                }[operation]
                place += true if test else false

    assert all(answer(number) == seccomp.REFUSE for number in table["refused"].values())
    assert answer(table["clone"]) == seccomp.REFUSE
    assert answer(table["clone"], seccomp.CLONE_THREAD | 0x100) == seccomp.ALLOW
    assert answer(table["clone3"]) == seccomp.NOT_IMPLEMENTED
    others = set(range(600)) - set(table["refused"].values()) - {table["clone"], table["clone3"]}
    assert {answer(number) for number in others} == {seccomp.ALLOW}
    assert answer(seccomp.X32_BIT + 1) == seccomp.KILL
    assert answer(0, arch=1) == seccomp.KILL
