"""What runs inside: a worker that holds the program, and a checker that holds its tests. They share two pipes only.

    checker -> worker    the program's source; then calls: (function, arguments), pickled
    worker -> checker    "ready"; how loading the program ended; then what each call returned or raised, as plain data
    checker -> outside   a line when the program starts, a line with the verdict

The verdict is the checker's, and each of the two is a process with walls of its own: a program has no way to the tests,
to the expected values or to the pipe of the verdict, whatever it prints, patches, closes or exits with. All it decides
is what its functions return, and that arrives as None, bool, int, float, complex, str, bytes, list, tuple, set, dict,
Fraction or Decimal, rebuilt by the checker: an object that claims to equal everything arrives as one that equals
nothing. (What follows: a test sees neither changes that a function makes to its arguments, nor the program's classes.)

Without tests a program passes by saying that it came to its end, which a program can say falsely.

Nothing here is imported inside: the text of this file is handed to an interpreter that sees no file of the project.
"""

import ast
import builtins
import json
import os
import pickle
import resource
import struct
import sys
from types import ModuleType

LARGEST = 16 * 2**20  # bytes of one message
SHOWN = 500  # characters of an error
EXACT = 2**53
READY = '"ready"'
UNBORN, CUT_SHORT = "did not start", "ended before its last line"


class Ended(BaseException):
    """The worker is gone. Not an Exception: a test that expects any error must not take this for it."""


class Link:
    """Messages, each with its length in front, over two pipes."""

    def __init__(self, incoming: int, outgoing: int):
        self.incoming, self.outgoing, self.ended = incoming, outgoing, False

    def send(self, message: bytes) -> None:
        rest = memoryview(struct.pack("<Q", len(message)) + message)
        try:
            while rest:
                rest = rest[os.write(self.outgoing, rest) :]
        except OSError:
            self.end()

    def receive(self) -> bytes:
        (size,) = struct.unpack("<Q", self._exactly(8))
        if size > LARGEST:
            self.ended = True  # the rest would be read as other messages
            raise ValueError(f"a result of more than {LARGEST} bytes")
        return self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        parts = []
        while size:
            part = os.read(self.incoming, min(size, 2**20))
            if not part:
                self.end()
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def end(self) -> None:
        self.ended = True
        raise Ended


class Unknown:
    """Stands for a returned object that is not plain data; equal to nothing but itself."""


def encode(value):
    """Plain data as JSON that keeps the types: a constant, a number, a text, or [type, content].

    Subclasses become what they are built on (enumerations, named tuples, counters), numpy's scalars Python's numbers.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        value = int.__int__(value)
        return value if abs(value) < EXACT else ["int", hex(value)]  # decimal digits are limited, and slow
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, str):
        return str.__str__(value)
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return [kind.__name__, [encode(item) for item in value]]
    if isinstance(value, dict):
        return ["dict", [[encode(key), encode(item)] for key, item in value.items()]]
    if isinstance(value, (type({}.keys()), type({}.items()))):
        return ["set", [encode(item) for item in value]]
    if isinstance(value, (bytes, bytearray)):
        return ["bytes", bytes(value).hex()]
    if isinstance(value, complex):
        return ["complex", [value.real, value.imag]]
    module, name = type(value).__module__, type(value).__name__
    if (module, name) in (("fractions", "Fraction"), ("decimal", "Decimal")):
        return [name, str(value)]
    if module == "numpy" and hasattr(value, "item") and getattr(value, "shape", None) == ():
        return encode(value.item())
    return ["unknown", None]


def decode(data):
    """The value that `encode` was given. Raises for data that it does not make."""
    if not isinstance(data, list):
        return data
    kind, content = data
    if kind in ("list", "tuple", "set", "frozenset"):
        return getattr(builtins, kind)([decode(item) for item in content])
    if kind == "dict":
        return {decode(key): decode(item) for key, item in content}
    if kind == "int":
        return int(content, 16)
    if kind == "bytes":
        return bytes.fromhex(content)
    if kind == "complex":
        return complex(*content)
    if kind == "Fraction":
        from fractions import Fraction

        return Fraction(content)
    if kind == "Decimal":
        from decimal import Decimal

        return Decimal(content)
    if kind == "unknown":
        return Unknown()
    raise ValueError(f"unknown type {kind!r}")


def said(error: BaseException) -> str:
    """The last line of a traceback, shortened."""
    return f"{type(error).__name__}: {error}".removesuffix(": ")[:SHOWN]


def answer(ask) -> bytes:
    """What `ask()` returns or raises, as a message. What is not an Exception (SystemExit) ends the worker."""
    try:
        return json.dumps(["returned", encode(ask())]).encode()
    except Exception as error:
        return json.dumps(["raised", type(error).__name__, said(error)]).encode()


def work(link: Link) -> None:
    """Load the program as a module that is not __main__, then answer calls until there are no more."""
    link.send(b"ready")
    source = link.receive().decode()
    module = sys.modules["program"] = ModuleType("program")
    sys.argv = ["program.py"]
    link.send(answer(lambda: exec(compile(source, "program.py", "exec"), module.__dict__)))
    while True:
        name, positional, named = pickle.loads(link.receive())
        link.send(answer(lambda: getattr(module, name)(*positional, **named)))  # noqa: B023 (called at once)


def call(link: Link, message: bytes):
    """Send a message; return what the worker returned, or raise what it raised (as a built-in exception)."""
    link.send(message)
    kind, *told = json.loads(link.receive())
    if kind == "returned":
        return decode(told[0])
    name, text = told
    error = getattr(builtins, str(name), None)
    known = isinstance(error, type) and issubclass(error, Exception)
    known = known and not issubclass(error, StopIteration)  # which would end a test's all(map(...)) as if it held
    raise error(str(text).removeprefix(str(name)).removeprefix(": ")) if known else RuntimeError(str(text))


def check(link: Link, program: str, tests: str, functions: list[str]) -> str:
    """Run the tests on the program's `functions`; "" where they pass, else why not.

    A function of the program stands in the place of a definition with its name in the tests (a signature to complete).
    """

    def proxy(name):
        return lambda *positional, **named: call(link, pickle.dumps((name, positional, named)))

    try:
        call(link, program.encode())
        tree = ast.parse(tests, "tests.py")
        tree.body = [node for node in tree.body if getattr(node, "name", None) not in functions]
        scope = {"__name__": "tests", **{name: proxy(name) for name in functions}}
        exec(compile(tree, "tests.py", "exec"), scope)
    except Ended:
        return CUT_SHORT
    except BaseException as error:
        return said(error)
    return CUT_SHORT if link.ended else ""


def main(role: str, limits: dict, path: list[str], pipes: list[int]) -> None:
    """Hard limits first (no way back without privileges), then the role; a checker's last pipe is the verdict's."""
    for name, value in limits.items():
        resource.setrlimit(getattr(resource, name), (value, value))
    sys.path[:0] = path
    link = Link(*pipes[:2])
    if role == "worker":
        work(link)
        return
    with os.fdopen(pipes[2], "w", buffering=1) as outside:
        try:
            link.receive()
        except Ended:
            print(json.dumps(UNBORN), file=outside)
            return
        job = json.load(sys.stdin)
        print(READY, file=outside)
        print(json.dumps(check(link, **job)), file=outside)


if __name__ == "__main__" and len(sys.argv) == 2:
    main(**json.loads(sys.argv[1]))
