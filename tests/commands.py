"""Every command that a page tells its reader to run: of fenced blocks, of indented ones, and inside sentences."""

import re
import shlex
from pathlib import Path

# What a command begins with. A single word is the name of a program, and no command: but for a script's path.
PROGRAMS = {"make", "snakemake", "python", "python3", "pip", "pytest", "ruff", "snakefmt", "git", "hf", "tmux", "kill"}
PROGRAMS |= {"sbatch", "squeue", "scancel", "sinfo", "source", "export", "cd", ".ci/run"}


def fences(text: str) -> list[tuple[str, str]]:
    """(language, text) of the fenced blocks of a page, indentation of lists taken away."""
    found = re.findall(r"^( *)```(\w*)\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    return [(language, re.sub(rf"^{indent}", "", inside, flags=re.MULTILINE)) for indent, language, inside in found]


def without_fences(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)


def is_command(words: str) -> bool:
    first, *rest = re.sub(r"^(?:[A-Z_]+=\S+ )*", "", words).split(" ")
    return first in PROGRAMS and bool(rest or "/" in first)


def of_lines(text: str) -> list[str]:
    """Lines of a shell, without comments; one that ends in a backslash goes on."""
    lines = (re.sub(r"(^|\s+)#.*", "", line).strip() for line in re.sub(r" *\\\n *", " ", text).splitlines())
    return [line for line in lines if line]


def of_text(text: str) -> list[str]:
    """The commands of a page in Markdown, once each, in its order but for those in sentences, which come last."""
    found = []
    for language, inside in fences(text):
        lines = of_lines(inside) if language in ("", "bash", "sh") else []
        found += lines if language else filter(is_command, lines)  # what a shell's block holds are commands, all of it
    prose = without_fences(text)
    indented = re.findall(r"(?<=\n\n)(?: {4,}\S.*\n)+", prose)
    found += [
        line for block in indented for line in of_lines(re.sub(r"^ {4}", "", block, flags=re.M)) if is_command(line)
    ]
    spans = re.findall(r"`([^`]+)`", prose)
    found += [words for words in (" ".join(span.split()) for span in spans) if is_command(words)]
    for command in found:
        shlex.split(command)  # an open quote is an error
    return list(dict.fromkeys(found))


def of_pages(root: Path, *patterns: str) -> dict[str, list[str]]:
    """{command: pages that have it}."""
    found: dict[str, list[str]] = {}
    for page in sorted(path for pattern in patterns for path in root.glob(pattern)):
        for command in of_text(page.read_text(encoding="utf-8")):
            found.setdefault(command, []).append(page.relative_to(root).as_posix())
    return found
