"""Make the lock from the packages installed here, and the conda and container recipes from the lock.

    python envs/make.py lock       # lock.txt and extras.txt: after a change of versions, in the new environment
    python envs/make.py recipes    # environment.yaml and Containerfile: after every change of the lock

lock.txt holds `name==version` of everything that the project and its tests need, as pip constraints: no hosts, no
hashes, no local version labels (torch 2.13.0+cpu is pinned as 2.13.0) and no accelerator libraries, which torch brings
itself where its platform has them. extras.txt holds what an extra (slurm, gpu) needs on top.
"""

import argparse
import hashlib
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
ENVS = ROOT / "envs"
EXTRAS = ("slurm", "gpu")
# Named differently by platform and brought by torch: a pin would be wrong elsewhere.
PLATFORM_PREFIXES = ("nvidia-", "cuda-", "triton", "pytorch-triton")


def closure(requirements: list[str]) -> dict[str, str]:
    """{name: public version} of the installed packages that these requirements need, directly or not."""
    found, seen, queue = {}, set(), [Requirement(text) for text in requirements]
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        wanted = {(name, extra) for extra in ("", *requirement.extras)} - seen
        seen |= wanted
        for _, extra in wanted:
            distribution = metadata.distribution(name)
            found[name] = distribution.version.split("+")[0]
            parts = [Requirement(text) for text in distribution.requires or []]
            queue += [part for part in parts if part.marker is None or part.marker.evaluate({"extra": extra})]
    return {name: version for name, version in found.items() if not name.startswith(PLATFORM_PREFIXES)}


def read_pins(path: Path) -> dict[str, str]:
    """{name: version} of a file of `name==version` lines; comments and blank lines left out."""
    lines = [line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return dict(line.split("==") for line in lines if line)


def _lines(pins: dict[str, str]) -> str:
    return "".join(f"{name}=={pins[name]}\n" for name in sorted(pins))


def lock_texts() -> dict[str, str]:
    """{file name: content} of the lock, from the packages installed in this Python."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    base = closure([*project["dependencies"], *optional["test"]])
    extras = "# What the extras need on top of lock.txt. Made by envs/make.py.\n"
    for extra in EXTRAS:
        more = closure(optional[extra])
        extras += f"\n# {extra}\n" + _lines({name: version for name, version in more.items() if name not in base})
    return {
        "lock.txt": "# Exact versions of the one environment, as pip constraints. Made by envs/make.py.\n"
        + _lines(base),
        "extras.txt": extras,
    }


def recipe_texts() -> dict[str, str]:
    """{file name: content} of the conda and the container recipe, from lock.txt and extras.txt."""
    pins = read_pins(ENVS / "lock.txt")
    lock_bytes = (ENVS / "lock.txt").read_bytes() + (ENVS / "extras.txt").read_bytes()
    python = "3.11"
    conda = f"""\
# The environment of lock.txt for conda or mamba. Made by envs/make.py. From the repository's root:
#   conda env create -f envs/environment.yaml && conda activate colocate
#   pip install --no-deps -e .
# On a cluster then also: pip install -c envs/lock.txt -c envs/extras.txt -e ".[slurm]"
name: colocate
channels: [conda-forge, nodefaults]
dependencies:
  - python={python}
  - pip
  - pip:
"""
    conda += "".join(f"      - {name}=={pins[name]}\n" for name in sorted(pins))
    container = f"""\
# The environment of lock.txt as a container. Made by envs/make.py. From the repository's root:
#   podman build -f envs/Containerfile -t colocate .        (or docker build)
#   podman run --rm -v "$PWD/results:/colocate/results" -v "$PWD/reports:/colocate/reports" colocate --cores all
# bubblewrap needs user namespaces inside the container; without them generated code is not run.
FROM docker.io/library/python:{python}-slim-bookworm
LABEL colocate.lock="sha256:{hashlib.sha256(lock_bytes).hexdigest()}"
ARG EXTRAS=test
RUN apt-get update \\
 && apt-get install -y --no-install-recommends bubblewrap make \\
 && rm -rf /var/lib/apt/lists/*
WORKDIR /colocate
COPY LICENSE README.md pyproject.toml Makefile Snakefile ./
COPY envs ./envs
COPY src ./src
RUN pip install --no-cache-dir -c envs/lock.txt -c envs/extras.txt -e ".[$EXTRAS]"
COPY config ./config
COPY data ./data
COPY profiles ./profiles
COPY workflow ./workflow
ENTRYPOINT ["snakemake"]
CMD ["--cores", "all"]
"""
    return {"environment.yaml": conda, "Containerfile": container}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["lock", "recipes"])
    texts = {"lock": lock_texts, "recipes": recipe_texts}[parser.parse_args().what]()
    for name, text in texts.items():
        (ENVS / name).write_text(text, encoding="utf-8")
        print(f"wrote envs/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
