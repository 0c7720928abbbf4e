"""The registry of templates, and what several of them need.

A template is a function of a random generator that returns (question, answer). Its split is written beside it: whole
templates are held out, so that validate and test ask for the skill and not for the template with other numbers.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

Draw = Callable[[random.Random], tuple[str, str]]
NAMES = [
    "Ada",
    "Ben",
    "Chloe",
    "Dmitri",
    "Elena",
    "Farid",
    "Grace",
    "Hugo",
    "Ines",
    "Jonas",
    "Kemi",
    "Lars",
    "Mina",
    "Nora",
]
NAMES += ["Oskar", "Priya", "Quentin", "Rosa", "Sven", "Tara"]


@dataclass(frozen=True)
class Template:
    """`checks` (code only): the answer's source text -> expressions that must be true once it has run."""

    name: str
    skill: str
    split: str
    draw: Draw
    checks: tuple[str, ...] = ()


REGISTRY: dict[str, Template] = {}


def template(skill: str, split: str = "train") -> Callable[[Draw], Draw]:
    """Decorator: register a function under its own name."""

    def register(draw: Draw) -> Draw:
        REGISTRY[draw.__name__] = Template(draw.__name__, skill, split, draw)
        return draw

    return register


def choice(rng: random.Random, question: str, right: str, wrong: list[str]) -> tuple[str, str]:
    """A question with four options in random order; the answer is the letter and the text."""
    options = [right, *rng.sample([text for text in wrong if text != right], 3)]
    rng.shuffle(options)
    lines = [f"{letter}. {text}" for letter, text in zip("ABCD", options, strict=True)]
    return "\n".join([question, *lines]), lines[options.index(right)]
