"""The questions of a benchmark's training or validation split, through lm-eval's task: prompt, answers, grading.

The split that the benchmark is scored on is refused, and questions that are asked there too are left out: what is
chosen by these questions must not have seen the test. Private benchmarks are refused, since their texts would be
written.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from colocate.errors import InputError
from colocate.pairs import LANGUAGES, UNSPACED

MGSM = frozenset("bn de en es fr ja ru sw te th zh".split())  # its languages; its tasks end in one: mgsm_direct_de


@dataclass(frozen=True)
class Question:
    """One document of a split. `prompt`: the question as its task asks it, without examples."""

    id: str
    domain: str
    language: str
    prompt: str
    document: dict
    task: object  # of lm-eval
    entry: dict  # of the config

    @property
    def has_choices(self) -> bool:
        return self.task.OUTPUT_TYPE == "multiple_choice"

    def choices(self) -> tuple[list[str], list[str]]:
        """(right, wrong) choices of a multiple-choice question, each once."""
        texts, target = [str(text) for text in self.task.doc_to_choice(self.document)], self._target()
        right = [texts.index(one) if isinstance(one, str) else one for one in target]
        gold = list(dict.fromkeys(clean(texts[index]) for index in right))
        return gold, [text for text in dict.fromkeys(map(clean, texts)) if text and text not in gold]

    def target(self) -> str:
        """The right answer of a question that is answered in words, as its task has it."""
        return clean(str(self._target()[0]))

    def _target(self) -> list:
        target = self.task.doc_to_target(self.document)
        return target if isinstance(target, list) else [target]

    def with_examples(self) -> str | None:
        """The prompt as an evaluation asks it, after the task's examples; None where it is one of them itself."""
        context = self.task.fewshot_context(self.document, self.task.config.num_fewshot or 0)
        return clean(context) if context.count(self.task.doc_to_text(self.document)) == 1 else None

    def stops(self) -> tuple[list[str], int]:
        """Where an answer ends: at one of these strings, or after so many tokens."""
        options = self.task.config.generation_kwargs or {}
        until = options.get("until") or []
        return [until] if isinstance(until, str) else list(until), options.get("max_gen_toks", 256)

    def right(self, answers: Sequence[str]) -> list[bool]:
        """Which answers the task's own filters and score take for right."""
        from lm_eval.api.instance import Instance

        from colocate.evaluation.tasks import score_of

        asked = [Instance("generate_until", self.document, ("", {}), 0, resps=[answer]) for answer in answers]
        self.task._instances = asked  # where lm-eval's own loop leaves them: its filters have no other entrance
        self.task.apply_filters()
        metric, name = score_of(self.task, self.entry)
        scores = [self.task.process_results(self.document, [one.filtered_resps[name]])[metric] for one in asked]
        return [bool(score > 0.5) for score in scores]

    def spelled(self, answer: str) -> str:
        """An answer as it follows the prompt: after one space, where the language has spaces."""
        return clean(answer) if self.language in UNSPACED else f" {clean(answer)}"

    def row(self, prompt: str, answers: Sequence[str], kind: str) -> dict:
        """A row of a pairs file; `answers`: the right one and two wrong ones, as they follow the prompt."""
        about = {"id": f"{self.id}-{kind}", "domain": self.domain, "language": self.language, "prompt": prompt}
        return about | dict(zip(("correct", "incorrect", "incorrect2"), answers, strict=True)) | {"tags": [kind]}


def read(name: str, entry: dict, split: str, seed: int, **folders: Path) -> list[Question]:
    """All questions of a split of the benchmark `name` (config entry `entry`) that its test does not ask as well.

    folders: benchmarks_dir, datasets_dir, cache_dir of evaluation.tasks.load. InputError for a private benchmark, the
    split that it is scored on, a split that is not there, and answers that are programs.
    """
    if entry.get("private"):
        raise InputError(f"pairs.made: {name} is private: its texts must not be written; choose another benchmark")
    from colocate.evaluation import tasks

    found = []
    for task_name, task in tasks.load(entry, seed=seed, **folders).items():
        if getattr(task, "UNSAFE_CODE", False) or task.OUTPUT_TYPE not in ("multiple_choice", "generate_until"):
            raise InputError(f"pairs.made: {name}: its answers are programs or whole texts, of which no pair is made")
        asked = {str(task.doc_to_text(document)) for document in task.eval_docs}
        column = tasks.GROUPS.get(entry.get("source", "builtin"), "group")
        for position, document in enumerate(_documents(name, task_name, task, split)):
            prompt = task.doc_to_text(document)
            if not isinstance(prompt, str):
                raise InputError(f"pairs.made: {name}: {task_name} chooses between prompts, not between answers")
            if prompt not in asked:
                domain, language = _word(document.get(column, task_name)), _language(document, task_name)
                identity = _word(f"{task_name}-{split}-{position}")
                found.append(Question(identity, domain, language, clean(prompt), document, task, entry))
    return found


def _documents(name: str, task_name: str, task, split: str):
    """The rows of a split, as the task processes them."""
    scored = task.config.test_split or task.config.validation_split
    allowed = [one for one in task.dataset if one != scored and not one.startswith("test")]
    if split not in allowed:
        why = f", on which {task_name} is scored" if split == scored else ""
        raise InputError(f"pairs.made: {name}: split: found {split}{why}; allowed: {', '.join(allowed) or 'none'}")
    rows, process = task.dataset[split], task.config.process_docs
    return rows if process is None else process(rows)


def _language(document: dict, task_name: str) -> str:
    """The row's own column, else the end of the task's name, else English."""
    own, ending = str(document.get("language", "")), task_name.rpartition("_")[2]
    if own in LANGUAGES:
        return own
    return ending if ending in MGSM else "en"


def clean(text: str) -> str:
    """In Unicode normal form NFC, without white space round it, as colocate.pairs wants its texts."""
    return unicodedata.normalize("NFC", text).strip()


def _word(name) -> str:
    return re.sub(r"[\s/]+", "_", str(name))
