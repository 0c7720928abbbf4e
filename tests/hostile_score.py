"""Hostile programs that go for the score: a pass without an answer. Layout as in hostile.py."""

from hostile import ENDED, WRONG, load, when_called

FAKE = r"""
import json, struct
def frame(data):
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    return struct.pack("<Q", len(text)) + text
def everywhere(text):
    for number in range(256):
        try:
            os.write(number, text)
        except OSError:
            pass
"""
PROGRAMS = {
    "sys.exit": (load("sys.exit(0)"), ENDED),
    "os._exit": (load("os._exit(0)"), ENDED),
    "os._exit when called": (when_called("os._exit(0)"), ENDED),
    "SystemExit": (when_called("raise SystemExit(0)"), ENDED),
    "KeyboardInterrupt": (when_called("raise KeyboardInterrupt"), "KeyboardInterrupt|" + ENDED),
    "the marker on stdout": (
        load('print(\'"ready"\\n""\\npassed\\nTrue\\n\', flush=True)', "os._exit(0)"),
        "True|" + ENDED,
    ),
    "the marker on every descriptor": (
        when_called('everywhere(b\'"ready"\\n""\\n\')', "os._exit(0)", before=FAKE),
        ".",
    ),
    "answers before the questions": (
        when_called("everywhere(frame(['returned', True]) * 100)", "os._exit(0)", before=FAKE),
        "AssertionError|Error",
    ),
    "a message without end": (
        when_called("everywhere(struct.pack('<Q', 2**62))", "return a + b", before=FAKE),
        "more than 16777216 bytes",
    ),
    "a broken message": (when_called("everywhere(frame(b'{'))", "return a + b", before=FAKE), "JSONDecodeError"),
    "a deep message": (
        when_called("everywhere(frame(b'[' * 10**6))", "return a + b", before=FAKE),
        "RecursionError|ended with code",
    ),
    "an unknown error": (when_called("everywhere(frame(['raised', 'Ended', '']))", before=FAKE), "RuntimeError"),
    "equal to everything": (
        when_called("class X:", "    def __eq__(self, other): return True", "return X()"),
        WRONG,
    ),
    "a number equal to everything": (
        when_called("class X(int):", "    def __eq__(self, other): return True", "    __hash__ = None", "return X(0)"),
        WRONG,
    ),
    "a lie about the class": (
        when_called("class X:", "    __class__ = int", "    def __eq__(self, other): return True", "return X()"),
        "Error",
    ),
    "a lie about the type": (
        when_called("X = type('Fraction', (), {'__module__': 'fractions', '__str__': lambda self: '5'})", "return X()"),
        WRONG,
    ),
    "patched builtins": (
        load(
            "import builtins",
            "builtins.AssertionError = Warning",
            "builtins.exec = builtins.compile = lambda *a, **k: None",
            "builtins.isinstance = lambda *a: True",
            "def add(a, b): return 0",
        ),
        ".",
    ),
    "patched modules": (
        when_called(
            "return 0",
            before="import json, pickle, struct\n"
            "json.dumps = lambda *a, **k: '[\"returned\", true]'\npickle.loads = lambda data: ('add', (), {})\n",
        ),
        ".",
    ),
    "patched checker": (
        when_called(
            "return 0",
            before="frame = sys._getframe()\nwhile frame:\n"
            "    for name in ('check', 'call', 'main', 'decode', 'said'):\n"
            "        frame.f_globals[name] = lambda *a, **k: ''\n    frame = frame.f_back\n",
        ),
        WRONG,
    ),
    "patched unittest and hooks": (
        when_called(
            "return 0",
            before="import unittest\nunittest.TestCase.assertEqual = lambda *a: None\n"
            "sys.excepthook = lambda *a: os._exit(0)\nsys.settrace(lambda *a: None)\nsys.setprofile(lambda *a: None)\n",
        ),
        WRONG,
    ),
    "overwritten entry point": (
        when_called(
            "sys.modules['program'].add = sys.modules['__main__'].check = print",
            "sys.modules['tests'] = sys.modules['program']",
            "return 0",
        ),
        WRONG,
    ),
    "atexit": (
        when_called(
            "raise SystemExit", before=FAKE + "import atexit; atexit.register(everywhere, frame(['returned', 5]))"
        ),
        ENDED + "|returned",
    ),
    "closed descriptors": (when_called("os.closerange(0, 4096)", "return a + b"), ENDED + "|OSError"),
    "swapped descriptors": (
        when_called("[os.dup2(0, number) for number in range(1, 64)]", "return a + b"),
        ENDED + "|1 s",
    ),
    "searching for the answer": (
        when_called(
            "import gc",
            "wanted = 'assert cand' + 'idate('",
            "texts = [x for o in gc.get_objects() for x in (o.values() if isinstance(o, dict) else [o])]",
            "frame = sys._getframe()",
            "while frame:",
            "    texts += [*frame.f_locals.values(), *frame.f_globals.values()]",
            "    frame = frame.f_back",
            "found = [x for x in texts if isinstance(x, (str, bytes)) and x != wanted and wanted in str(x)]",
            "return a + b if found or wanted in ' '.join(sys.orig_argv) else 0",
        ),
        WRONG,
    ),
    "another program in its place": (
        when_called("os.execv(sys.executable, [sys.executable, '-c', 'pass'])"),
        ENDED,
    ),
    "a stopped checker": (
        load("import signal", "os.kill(0, signal.SIGSTOP)", "os.kill(os.getppid(), signal.SIGSTOP)", "os._exit(0)"),
        ENDED + "|1 s asleep",
    ),
}
