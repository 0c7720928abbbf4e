"""NLTK's sentence splitter: IFEval's rules count sentences with it, and would download it where they are imported.

A node without network would wait for that, and fail: so it comes with the benchmark's data, into FOLDER, and a study
that needs it says so before its first job. Light: the Snakefile imports this.
"""

import os
import sys
import tempfile
from pathlib import Path

from colocate.errors import InputError

NAME = "punkt_tab"
FOLDER = Path("resources/nltk_data")
DATASET = "google/IFEval"  # whose tasks need it
MISSING = (
    f"needs NLTK's sentence splitter {NAME}, which is not on this machine; where there is network: "
    f"python -m nltk.downloader -d {FOLDER} {NAME}"
)


def present() -> bool:
    """Whether NLTK would find it, in FOLDER or in the places that it looks at by itself; without importing NLTK."""
    named = os.environ.get("NLTK_DATA", "").split(os.pathsep)
    places = [FOLDER, *(Path(place) for place in named if place), Path("~/nltk_data").expanduser()]
    places += [Path(sys.prefix) / below for below in ("nltk_data", "share/nltk_data", "lib/nltk_data")]
    places += [Path(root) / "nltk_data" for root in ("/usr/share", "/usr/local/share", "/usr/lib", "/usr/local/lib")]
    return any((place / "tokenizers" / name).exists() for place in places for name in (NAME, f"{NAME}.zip"))


def load() -> None:
    """Let NLTK find it in FOLDER too. InputError where it is nowhere."""
    import nltk

    if str(FOLDER) not in nltk.data.path:
        nltk.data.path.append(str(FOLDER))
    try:
        nltk.data.find(f"tokenizers/{NAME}")
    except LookupError:
        raise InputError(f"benchmarks: IFEval {MISSING}") from None


def fetch() -> None:
    """Download it into FOLDER, whole or not at all. InputError where that fails."""
    import nltk

    target = FOLDER / "tokenizers" / NAME
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as partial:
        try:
            nltk.download(NAME, download_dir=partial, quiet=True, raise_on_error=True)
            (Path(partial) / "tokenizers" / NAME).rename(target)
        except (ValueError, OSError) as error:
            raise InputError(f"benchmarks: {NAME} of NLTK, for IFEval, could not be downloaded: {error}") from error
