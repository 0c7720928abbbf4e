"""Digests change with what a job can reach, and with nothing else."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from colocate import digests

PARTS = {
    "script.py": '"""Doc."""\nfrom colocate import top\n\nprint(top.x)\n',
    "colocate/__init__.py": "",
    "colocate/top.py": "def x():\n    from colocate.inner import y\n    return y\n",
    "colocate/inner.py": "import numpy\ny = 1  # a comment\n",
    "colocate/plot.py": "z = 1\n",
    "colocate/kinds/__init__.py": "",
    "colocate/kinds/one.py": "import pandas\n",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    for name, text in PARTS.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(digests, "SOURCE", tmp_path)
    monkeypatch.setattr(digests, "KEPT", tmp_path / "none/kept.json")
    return tmp_path


def code(package: Path, *modules: str) -> str:
    for cached in (
        digests.module_file,
        digests.code,
        digests.closure,
        digests._read,
        digests._kept,
        digests.environment,
    ):
        cached.cache_clear()
    return digests.code(package / "script.py", modules)


def edit(package: Path, name: str, old: str, new: str) -> None:
    path = package / name
    assert old in path.read_text() or old == ""
    path.write_text(path.read_text().replace(old, new) if old else new)


@pytest.mark.parametrize(
    ("name", "old", "new", "changes"),
    [
        ("colocate/inner.py", "y = 1", "y = 2", True),  # imported inside a function of an imported module
        ("script.py", "top.x", "top.y", True),
        ("colocate/top.py", "    return y", "    if y:\n        return y", True),
        ("colocate/inner.py", "  # a comment", "  # another", False),
        ("colocate/top.py", "def x():\n", 'def x():\n    """Doc."""\n\n', False),
        ("script.py", '"""Doc."""\n', '"""Another text."""\n\n\n', False),
        ("colocate/plot.py", "z = 1", "z = 2", False),  # nobody imports it
        ("colocate/kinds/one.py", "import pandas", "import scipy", False),  # only if a registry selects it
    ],
)
def test_code_follows_what_the_script_can_reach(package, name, old, new, changes):
    before = code(package)
    edit(package, name, old, new)
    assert (code(package) != before) is changes


def test_a_registry_names_the_module_that_counts(package):
    before = code(package, "colocate.kinds.one")
    assert before != code(package)
    edit(package, "colocate/kinds/one.py", "import pandas", "import scipy")
    assert code(package, "colocate.kinds.one") != before
    with pytest.raises(ModuleNotFoundError, match=r"colocate\.kinds\.two"):
        code(package, "colocate.kinds.two")


def test_a_touch_changes_nothing(package):
    before = code(package)
    (package / "colocate/inner.py").touch()
    assert code(package) == before


def test_what_was_digested_once_is_kept_for_later_processes(tmp_path):
    """By content: a copy reads the same entries, an edit adds one; a file that is no JSON is made anew."""
    (tmp_path / ".snakemake").mkdir()
    script, kept = tmp_path / "script.py", tmp_path / ".snakemake/colocate-digests.json"
    program = (
        "import sys; from pathlib import Path; from colocate import digests; print(digests.code(Path('script.py')))"
    )

    def digest() -> str:
        command = [sys.executable, "-c", program]
        return subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, check=True).stdout

    script.write_text("x = 1\n")
    first = digest()
    entries = json.loads(kept.read_text())["files"]
    assert len(entries) == 1
    written = kept.stat().st_mtime_ns
    script.touch()
    assert digest() == first
    assert kept.stat().st_mtime_ns == written
    script.write_text("x = 1  # one\n")
    assert digest() == first
    assert len(json.loads(kept.read_text())["files"]) == 2
    script.write_text("x = 2\n")
    assert digest() != first
    kept.write_text("{")
    script.write_text("x = 1\n")
    assert digest() == first


def test_environment_names_the_packages_that_are_imported_and_no_others(package):
    code(package)
    line = digests.environment(package / "script.py", ())
    assert line.startswith(f"python=={sys.version_info.major}.{sys.version_info.minor} numpy==")
    assert "pandas" not in line
    assert "pandas==" in digests.environment(package / "script.py", ("colocate.kinds.one",))


def test_every_package_that_the_project_imports_has_a_known_version():
    """An import whose distribution has another name must be in DISTRIBUTIONS, or its version would not be followed."""
    source = Path(digests.__file__).parent
    root = source.parents[1]
    outside = set()
    for script in (root / "workflow/scripts").glob("*.py"):
        names = [
            f"colocate.{path.relative_to(source).with_suffix('').as_posix().replace('/', '.')}"
            for path in source.rglob("*.py")
        ]
        modules = tuple(name.removesuffix(".__init__") for name in names if name != "colocate.__init__")
        outside |= digests.closure(script, modules)[1]
    third_party = {name for name in outside if name not in sys.stdlib_module_names and name != "utils"}
    known = digests.versions(frozenset(third_party))
    optional = {"bitsandbytes", "math_verify", "triton"}
    unknown = {name for name in third_party if digests.DISTRIBUTIONS.get(name, name) not in known} - optional
    assert not unknown
