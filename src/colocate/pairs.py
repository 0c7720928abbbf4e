"""Read and check the text pairs that the layer metrics are measured on, and find the tokens of an answer.

Three kinds of JSONL file, UTF-8, one object a line:

    pair        id domain language prompt correct incorrect incorrect2 tags   (one right and two wrong answers)
    paraphrase  id domain language prompt correct paraphrase tags             (two right answers: the control)
    text        id genre language text                                        (neutral running text)

The text of a pair is prompt + answer, plainly joined, so the answer is its suffix: it carries its leading space, and
the prompt ends without one, so that every tokenizer sees the spelling of running text. Languages written without spaces
are exempt from that rule.

Checks come in two steps, both before any job that computes: `check` reads the files alone; `check_tokens` and
`check_windows` need a tokenizer and the model's context.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from colocate.errors import InputError

UNSPACED = frozenset({"ja", "km", "lo", "my", "th", "zh"})  # ISO 639-1 codes of languages without spaces between words
LANGUAGES = frozenset(  # all of ISO 639-1
    "aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo "
    "es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka "
    "kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng "
    "nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su "
    "sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu".split()
)
ANSWERS = ("correct", "incorrect", "incorrect2", "paraphrase")
ORIGIN = ("file", "line")  # where a row was read; not fields of the file


@dataclass(frozen=True)
class Pair:
    """One prompt with a right answer and two wrong ones of the same form."""

    id: str
    domain: str
    language: str
    prompt: str
    correct: str
    incorrect: str
    incorrect2: str
    tags: tuple[str, ...] = ()
    file: str = ""
    line: int = 0


@dataclass(frozen=True)
class Paraphrase:
    """One prompt with two right answers, the edit between them as small as between a right and a wrong one."""

    id: str
    domain: str
    language: str
    prompt: str
    correct: str
    paraphrase: str
    tags: tuple[str, ...] = ()
    file: str = ""
    line: int = 0


@dataclass(frozen=True)
class Text:
    """Neutral running text, for metrics that need positions rather than answers."""

    id: str
    genre: str
    language: str
    text: str
    file: str = ""
    line: int = 0


def read_pairs(files: str | Path | Sequence[str | Path]) -> list[Pair]:
    """All pairs of one or more files, in order. InputError names the first bad row."""
    return _read_or_raise(files, Pair)


def read_paraphrases(files: str | Path | Sequence[str | Path]) -> list[Paraphrase]:
    """All paraphrase controls of one or more files, in order. InputError names the first bad row."""
    return _read_or_raise(files, Paraphrase)


def read_texts(files: str | Path | Sequence[str | Path]) -> list[Text]:
    """All neutral texts of one or more files, in order. InputError names the first bad row."""
    return _read_or_raise(files, Text)


def check(files, paraphrases=(), texts=()) -> list[str]:
    """Every problem of these files as `file:line: field: what`, empty if they are sound. Each argument: a path or more.

    Ids are unique over all files together: they name the items of every table that follows. What only sound rows can
    tell, whether they cover more than one domain and every language of their controls, is looked at last.
    """
    rows, problems = [], []
    for paths, kind in ((files, Pair), (paraphrases, Paraphrase), (texts, Text)):
        for path in _paths(paths):
            found, bad = _read_file(path, kind)
            rows += found
            problems += bad
    problems += _duplicates(rows)
    return problems or _gaps(rows)


def check_tokens(pairs: Iterable[Pair | Paraphrase], tokenizer, max_length: int) -> list[str]:
    """Problems that show only with a model: texts beyond its context, answers that its tokens do not tell apart."""
    problems = []
    for pair in pairs:
        encoded = {}
        for name in answers_of(pair):
            ids, _ = encode(tokenizer, pair.prompt, getattr(pair, name))
            if len(ids) > max_length:
                problems.append(
                    f"{_place(pair, name)}: {len(ids)} tokens with the prompt, the model takes {max_length}"
                )
            twin = encoded.setdefault(tuple(ids), name)
            if twin != name:
                problems.append(f"{_place(pair, name)}: this tokenizer turns it into the same tokens as {twin!r}")
    return problems


def check_windows(texts: Iterable[Text], tokenizer, lengths: Iterable[int], max_length: int) -> list[str]:
    """Problems of windows of so many tokens (`text_tokens` of a profile) that the model or the texts do not hold."""
    total = sum(len(tokenizer(text.text)["input_ids"]) for text in texts)
    problems = []
    for length in lengths:
        if length > max_length:
            problems.append(f"text_tokens: found {length}, the model takes {max_length}")
        elif length > total:
            problems.append(f"text_tokens: found {length}, all texts together have {total} tokens")
    return problems


def count_tokens(pairs: Iterable[Pair | Paraphrase], tokenizer) -> dict:
    """How alike the answers of each row are in tokens, ready for JSON.

    n: rows; equal: those whose answers have the same number of tokens; one_apart: those where each other answer differs
    from the right one in exactly one token; longest: most tokens of a prompt with its answer; unequal: {id: tokens of
    each answer} of the rows that are not equal. These are no error, but length then adds to their distance.
    """
    found = {"n": 0, "equal": 0, "one_apart": 0, "longest": 0, "unequal": {}}
    for row in pairs:
        encoded = [encode(tokenizer, row.prompt, getattr(row, name)) for name in answers_of(row)]
        lengths = [len(ids) for ids, _ in encoded]
        found["n"] += 1
        found["longest"] = max(found["longest"], *lengths)
        if len(set(lengths)) > 1:
            found["unequal"][row.id] = [len(ids) - start for ids, start in encoded]
            continue
        first, *others = [ids for ids, _ in encoded]
        found["equal"] += 1
        found["one_apart"] += all(sum(a != b for a, b in zip(first, other, strict=True)) == 1 for other in others)
    return found


def encode(tokenizer, prompt: str, answer: str) -> tuple[list[int], int]:
    """Token ids of prompt + answer with the tokenizer's defaults, and the index of the answer's first token.

    Answer tokens are those whose character offsets begin at or after len(prompt). A tokenizer that merges the whole
    answer into the prompt's last token leaves none: the last token then stands for the answer.
    """
    encoded = tokenizer(prompt + answer, return_offsets_mapping=True)
    ids, offsets = list(encoded["input_ids"]), encoded["offset_mapping"]
    begins = (index for index, (begin, _) in enumerate(offsets) if begin >= len(prompt))
    return ids, next(begins, len(ids) - 1)


def answers_of(pair: Pair | Paraphrase) -> list[str]:
    """Names of the answer fields of a row, the right one first."""
    return [field.name for field in fields(pair) if field.name in ANSWERS]


def swaps(pairs: Sequence[Pair]) -> list[tuple[Pair, Pair]]:
    """Partners: two pairs of one language where each one's right answer is the other's wrong one; each pair used once.

    Over both texts of a partnership the right and the wrong side hold the same prompts and the same answers: what is
    left between them is which answer follows which prompt.
    """
    waiting: dict[tuple[str, str, str], list[Pair]] = {}
    found = []
    for pair in pairs:
        mirrored = waiting.get((pair.language, pair.incorrect, pair.correct))
        if mirrored:
            found.append((mirrored.pop(0), pair))
        else:
            waiting.setdefault((pair.language, pair.correct, pair.incorrect), []).append(pair)
    return found


def _paths(paths) -> list[Path]:
    return [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]


def _place(row, field: str) -> str:
    return f"{row.file}:{row.line}: {field}"


def _read_or_raise(paths, kind) -> list:
    rows, problems = [], []
    for path in _paths(paths):
        found, bad = _read_file(path, kind)
        rows += found
        problems += bad
    problems += _duplicates(rows)
    if problems:
        more = f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""
        raise InputError(problems[0] + more)
    return rows


def _read_file(path: Path, kind) -> tuple[list, list[str]]:
    """Sound rows of one file, and the problems of the others."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        return [], [f"{path}: cannot be read: {error.strerror}"]
    if not raw.strip():
        return [], [f"{path}: the file is empty; expected one JSON object a line"]
    rows, problems = [], []
    for number, line in enumerate(raw.removesuffix(b"\n").split(b"\n"), start=1):
        place = f"{path}:{number}"
        try:
            row = json.loads(line.decode("utf-8"), object_pairs_hook=_unique_keys)
        except UnicodeDecodeError as error:
            problems.append(f"{place}: not UTF-8: byte 0x{line[error.start]:02x} at position {error.start}")
            continue
        except (ValueError, RecursionError) as error:
            problems.append(f"{place}: not one JSON object: {error}")
            continue
        bad = _check_row(row, kind)
        problems += [f"{place}: {problem}" for problem in bad]
        if not bad:
            values = {key: tuple(value) if key == "tags" else value for key, value in row.items()}
            rows.append(kind(**values, file=str(path), line=number))
    return rows, problems


def _unique_keys(items: list[tuple]) -> dict:
    row = dict(items)
    if len(row) < len(items):
        keys = [key for key, _ in items]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} appears twice")
    return row


def _check_row(row, kind) -> list[str]:
    """Problems of one decoded row as `field: what`."""
    if not isinstance(row, dict):
        return [f"expected a JSON object, found {type(row).__name__}"]
    allowed = [field.name for field in fields(kind) if field.name not in ORIGIN]
    problems = [f"{key}: unknown field; allowed: {', '.join(allowed)}" for key in row if key not in allowed]
    for name in allowed:
        if name not in row:
            problems.append(f"{name}: missing")
        elif name == "tags":
            problems += _check_tags(row[name])
        else:
            problems += _check_string(name, row[name], row)
    if not problems:
        problems += _check_answers(row)
    return problems


def _check_tags(tags) -> list[str]:
    if not isinstance(tags, list) or not all(isinstance(tag, str) and tag.strip() for tag in tags):
        return [f"tags: expected a list of words, found {json.dumps(tags, ensure_ascii=False)}"]
    return ["tags: a tag appears twice"] if len(set(tags)) < len(tags) else []


def _check_string(name: str, value, row: dict) -> list[str]:
    if not isinstance(value, str):
        return [f"{name}: expected text, found {json.dumps(value, ensure_ascii=False)}"]
    if not value.strip():
        return [f"{name}: is empty"]
    if not _encodable(value):
        return [f"{name}: holds half of a surrogate pair, which is no character"]
    if unicodedata.normalize("NFC", value) != value:
        return [f"{name}: is not in Unicode normal form NFC"]
    if name in ("id", "domain", "genre") and re.search(r"\s|/", value):
        return [f"{name}: {value!r} holds white space or a slash"]
    if name == "language" and value not in LANGUAGES:
        return [f"language: {value!r} is not a two-letter code of ISO 639-1, such as 'en'"]
    if name in ANSWERS:
        prompt = row.get("prompt")
        if isinstance(prompt, str) and prompt.strip() and value.strip().startswith(prompt.strip()):
            return [f"{name}: repeats the prompt; expected the answer alone, since the text is prompt + answer"]
        if value.rstrip() != value:
            return [f"{name}: {value!r} ends in white space"]
        if str(row.get("language")) not in UNSPACED and not re.match(r" \S", value):
            return [
                f"{name}: {value!r} must begin with exactly one space, since prompt and answer are joined as they are"
            ]
    if name == "prompt" and value.rstrip() != value:
        return [f"prompt: {value[-20:]!r} ends in white space; the space belongs to the answer"]
    return []


def _encodable(value: str) -> bool:
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in value)


def _check_answers(row: dict) -> list[str]:
    """A right answer must not stand against itself. Capitals count: `True` and `true` differ in code."""
    problems, seen = [], {}
    for name in (name for name in ANSWERS if name in row):
        twin = seen.setdefault(row[name].strip(), name)
        if twin != name:
            problems.append(f"{name}: {row[name]!r} is the same answer as {twin}")
    return problems


def _duplicates(rows: list) -> list[str]:
    problems, ids, contents = [], {}, {}
    for row in rows:
        first = ids.setdefault(row.id, row)
        if first is not row:
            problems.append(f"{_place(row, 'id')}: {row.id!r} is already used at {first.file}:{first.line}")
        content = (type(row), row.text) if isinstance(row, Text) else (type(row), row.prompt, row.correct)
        first = contents.setdefault(content, row)
        if first is not row:
            name = "text" if isinstance(row, Text) else "prompt"
            problems.append(f"{_place(row, name)}: the same as in {first.id!r} at {first.file}:{first.line}")
    return problems


def _gaps(rows: list) -> list[str]:
    """Pairs of one domain alone, and controls in a language that no pair has."""
    pairs, problems = [row for row in rows if isinstance(row, Pair)], []
    domains, languages = {row.domain for row in pairs}, {row.language for row in pairs}
    if len(pairs) > 1 and len(domains) == 1:
        problems.append(
            f"{pairs[0].file}: domain: all {len(pairs)} pairs are of {pairs[0].domain!r}, so that nothing tells a "
            "profile of the model from one of that domain; add pairs of another, or give each kind of pair its own"
        )
    first = {row.language: row for row in reversed(rows) if isinstance(row, Paraphrase)}
    for language in sorted(first.keys() - languages) if pairs else ():
        problems.append(
            f"{_place(first[language], 'language')}: {language!r} has no pairs, only controls; languages of the pairs: "
            f"{', '.join(sorted(languages))}; add pairs in it, or leave its controls out"
        )
    return problems
