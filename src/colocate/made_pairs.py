"""Pairs made by the hundred, in the format of colocate.pairs, from a benchmark's training or validation split.

    benchmark     a multiple-choice question: its right choice, and two of its wrong ones (a question with a numeric
                  answer: that number, and two others close by, with as many digits)
    own_answers   the model's own answers to one question, sampled and graded by the task's own scoring: a right one
                  against a wrong one, and another wrong one. Answers count whose confidence, the geometric mean of
                  their tokens' probabilities, exp(1/T sum_t log p(y_t | y_<t)), is at least `min_confidence`

Hand-made pairs are few and chosen by someone; these are many and nobody chose them. The model's own answers remove
another doubt: a wrong answer that no model would give is told from a right one by its oddness alone.

The split that the benchmark is scored on is refused (colocate.questions). The same seed gives the same pairs; questions
that give none are counted by reason.
"""

import json
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from colocate import pairs, questions
from colocate.errors import InputError
from colocate.files import Progress, silent, write_text
from colocate.geometry import context_length
from colocate.profiles.settings import at_least, choice, parse
from colocate.questions import Question, clean

KINDS = ("benchmark", "own_answers")
NUMBER = re.compile(r"(?:^|\s)([-\u2212]?\d[\d,]*(?:\.\d+)?)$")  # the last word of an answer
TOO_LONG = "longer than the model's context"
NEAR = 10  # a wrong number lies at most so many units of its last digit away


@dataclass(frozen=True)
class Settings:
    """One entry of the config's `pairs.made`. samples: answers drawn per question, at `temperature`."""

    kind: str
    benchmark: str
    split: str = "validation"
    n: int = 200
    min_confidence: float = 0.1
    samples: int = 8
    temperature: float = 1.0

    def __post_init__(self):
        choice("kind", self.kind, KINDS)
        at_least("n", self.n, 1)
        at_least("samples", self.samples, 3)
        if not 0 <= self.min_confidence <= 1:
            raise InputError(f"min_confidence: found {self.min_confidence!r}, allowed: 0 to 1")
        if not self.temperature > 0:
            raise InputError(f"temperature: found {self.temperature!r}, allowed: numbers above 0")


def write(
    out: str | Path,
    entries: Sequence[dict],
    benchmarks: dict[str, dict],
    model_folder: str | Path,
    *,
    seed: int,
    dtype: str,
    device: str,
    benchmarks_dir: str | Path = "data/benchmarks",
    datasets_dir: str | Path = "resources/datasets",
    progress: Progress = silent,
) -> list[dict]:
    """Write the pairs file `out` of the entries of the config's `pairs.made`; returns one record of counts an entry.

    `benchmarks`: the config's entry of each benchmark that is named. InputError for a split or benchmark that must not
    be used, and where an entry gives no pair at all.
    """
    from colocate import models

    wanted = [parse(Settings, entry) for entry in entries]
    if not wanted:
        raise InputError("pairs.made: found no entry, expected at least one of kind benchmark or own_answers")
    folders = {"benchmarks_dir": Path(benchmarks_dir), "datasets_dir": Path(datasets_dir)}
    tokenizer, max_length = models.load_tokenizer(model_folder), context_length(model_folder)
    own = any(entry.kind == "own_answers" for entry in wanted)
    model = models.load_model(model_folder, dtype, device) if own else None
    rows: dict[tuple[str, str], dict] = {}  # by prompt and right answer: no pair is there twice
    records = []
    for number, entry in enumerate(wanted):

        def share(done: float, note: str = "", number=number) -> None:
            progress((number + done) / len(wanted), note)

        with tempfile.TemporaryDirectory() as cache:
            found = questions.read(
                entry.benchmark, benchmarks[entry.benchmark], entry.split, seed, cache_dir=Path(cache), **folders
            )
            if entry.kind == "own_answers":
                made, left_out = own_answers(model, tokenizer, found, entry, seed, max_length, share)
            else:
                made, left_out = from_benchmark(found, tokenizer, entry.n, seed, max_length)
        new = {(row["prompt"], row["correct"]): row for row in made}
        left_out["made already"] += len(made) - len(new.keys() - rows.keys())
        new = {key: row for key, row in new.items() if key not in rows}
        if not new:
            why = ", ".join(f"{reason} {count}" for reason, count in (+left_out).items()) or "no question"
            raise InputError(f"pairs.made: {entry.kind} of {entry.benchmark}, split {entry.split}: no pair ({why})")
        rows |= new
        about = {"kind": entry.kind, "benchmark": entry.benchmark, "split": entry.split}
        records.append({**about, "questions": len(found), "pairs": len(new), "left_out": dict(+left_out)})
    write_text(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows.values()))
    if problems := pairs.check(out):
        raise InputError(f"pairs.made: {problems[0].removeprefix(f'{out}:').strip()} ({len(problems)} problems)")
    return records


# --- a benchmark's answers --------------------------------------------------------------------------------------------


def from_benchmark(
    found: Sequence[Question], tokenizer, n: int, seed: int, max_length: int
) -> tuple[list[dict], Counter]:
    """Up to n rows, drawn at random, in the order of the questions; and how many gave none on the way, by reason."""
    rng, left_out, rows = np.random.default_rng(seed), Counter(), {}
    for index in map(int, rng.permutation(len(found))):
        if len(rows) == n:
            break
        answers = _choices(found[index], rng) if found[index].has_choices else near_numbers(found[index].target(), rng)
        if len(answers) < 3:
            left_out["fewer than three answers"] += 1
            continue
        row = found[index].row(found[index].prompt, [found[index].spelled(answer) for answer in answers], "benchmark")
        reason = _unfit(row, tokenizer, max_length)
        if reason is None:
            rows[index] = row
        else:
            left_out[reason] += 1
    return [rows[index] for index in sorted(rows)], left_out


def _choices(question: Question, rng) -> list[str]:
    """The right choice and two of the wrong ones, drawn."""
    right, wrong = question.choices()
    return [*right[:1], *(wrong[index] for index in rng.permutation(len(wrong))[:2])]


def near_numbers(target: str, rng) -> list[str]:
    """The number that an answer ends with, and two close by with as many digits; less where there are none."""
    match = NUMBER.search(clean(target).removesuffix("."))
    if match is None:
        return []
    gold = match.group(1).replace(",", "").replace("\u2212", "-")
    sign, digits = ("-", gold[1:]) if gold.startswith("-") else ("", gold)
    whole, point, decimals = digits.partition(".")
    units, near = int(whole + decimals), []  # of the last digit
    for other in range(max(0, units - NEAR), units + NEAR + 1):
        text = str(other).zfill(len(decimals) + 1)
        cut = len(text) - len(decimals)
        spelled = text[:cut] + point + text[cut:]
        if other != units and len(spelled) == len(digits) and not (sign and other == 0):
            near.append(sign + spelled)
    return [gold, *(near[index] for index in rng.permutation(len(near))[:2])]


# --- the model's own answers ------------------------------------------------------------------------------------------


def own_answers(
    model,
    tokenizer,
    found: Sequence[Question],
    settings: Settings,
    seed: int,
    max_length: int,
    progress: Progress = silent,
) -> tuple[list[dict], Counter]:
    """Up to settings.n rows of sampled answers, and how many questions gave none, by reason.

    Of the answers with enough confidence, the most confident right one stands against the most confident wrong one, and
    the next wrong one is its control. Only answers that end by themselves count.
    """
    left_out, rows = Counter(), {}
    order = np.random.default_rng(seed).permutation(len(found))
    for done, index in enumerate(map(int, order)):
        if len(rows) == settings.n:
            break
        progress(max(done / len(order), len(rows) / settings.n), f"{len(rows)} pairs of {done} questions")
        row, reason = _own_row(model, tokenizer, found[index], settings, [seed, index], max_length)
        reason = reason or _unfit(row, tokenizer, max_length)
        if reason is None:
            rows[index] = row
        else:
            left_out[reason] += 1
    return [rows[index] for index in sorted(rows)], left_out


def _own_row(
    model, tokenizer, question: Question, settings: Settings, seed: list[int], max_length: int
) -> tuple[dict | None, str | None]:
    """A row, or the reason why there is none."""
    if question.has_choices:
        raise InputError(
            f"pairs.made: own_answers: {settings.benchmark} offers choices, to which a model writes no answers of its "
            "own; allowed: benchmarks that are answered in words, or kind: benchmark"
        )
    prompt = question.with_examples()
    if prompt is None:
        return None, "shown as an example"
    until, max_tokens = question.stops()
    if len(tokenizer(prompt)["input_ids"]) + max_tokens > max_length:
        return None, TOO_LONG
    drawn = sample(model, tokenizer, prompt, until, max_tokens, settings.samples, settings.temperature, seed)
    confident: dict[str, float] = {}
    for text, confidence in drawn:
        if confidence >= settings.min_confidence and text.strip() and question.spelled(text) == text.rstrip():
            confident[text.rstrip()] = max(confidence, confident.get(text.rstrip(), 0))
    answers = sorted(confident, key=lambda text: (-confident[text], text))
    verdicts = dict(zip(answers, question.right(answers) if answers else [], strict=True))
    right, wrong = ([text for text in answers if verdicts[text] == kind] for kind in (True, False))
    if not right:
        return None, "no confident right answer"
    if len(wrong) < 2:
        return None, "fewer than two confident wrong answers"
    return question.row(prompt, [right[0], *wrong[:2]], "own_answers"), None


def sample(
    model, tokenizer, prompt: str, until: list[str], max_tokens: int, n: int, temperature: float, seed: list[int]
) -> list[tuple[str, float]]:
    """n answers drawn from p(y_t | y_<t)^(1 / temperature): (text, confidence) of those that end within max_tokens.

    The text ends before the first string of `until`, or at the end token. Confidence: exp of the mean log p of all
    tokens drawn, the last of which ends the answer, at temperature 1 whatever they are drawn at.
    """
    import torch

    generator = torch.Generator().manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    ids = torch.tensor([tokenizer(prompt)["input_ids"]], device=model.device)
    written, logprobs, found = [[] for _ in range(n)], [[] for _ in range(n)], []
    with torch.inference_mode():
        out = model(input_ids=ids, use_cache=True, logits_to_keep=1)
        cache, logits, rows = out.past_key_values, out.logits[:, -1].expand(n, -1), list(range(n))
        cache.batch_repeat_interleave(n)
        for step in range(max_tokens):
            logits = logits.float().cpu()
            tokens = torch.multinomial((logits / temperature).softmax(1), 1, generator=generator)
            chosen = logits.log_softmax(1).gather(1, tokens)
            going = []
            for place, row in enumerate(rows):
                written[row].append(int(tokens[place]))
                logprobs[row].append(float(chosen[place]))
                text = _ending(tokenizer, written[row], until)
                if text is None:
                    going.append(place)
                else:
                    found.append((text, float(np.exp(np.mean(logprobs[row])))))
            if not going or step == max_tokens - 1:
                break
            rows = [rows[place] for place in going]
            cache.batch_select_indices(torch.tensor(going, device=model.device))
            out = model(input_ids=tokens[going].to(model.device), past_key_values=cache, use_cache=True)
            logits = out.logits[:, -1]
    return found


def _ending(tokenizer, ids: list[int], until: list[str]) -> str | None:
    """The answer, if it has ended: before a stop string, which may end in the middle of a token, or the end token."""
    if ids[-1] == tokenizer.eos_token_id:
        return tokenizer.decode(ids[:-1])
    text = tokenizer.decode(ids)
    stops = [text.index(word) for word in until if word in text]
    return text[: min(stops)] if stops else None


# --- both -------------------------------------------------------------------------------------------------------------


def _unfit(row: dict, tokenizer, max_length: int) -> str | None:
    """Why this model cannot use a row, or None."""
    encoded = [pairs.encode(tokenizer, row["prompt"], row[name])[0] for name in ("correct", "incorrect", "incorrect2")]
    if max(map(len, encoded)) > max_length:
        return TOO_LONG
    if len({tuple(ids) for ids in encoded}) < len(encoded):
        return "answers of the same tokens"
    return None
