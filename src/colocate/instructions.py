"""Instruction data: read and mix sources, split them, mask the loss, pack.

A mixture is three JSONL files (train, validate, test) of rows

    {"id", "template", "group", "source", "messages": [{"role": "user", "content"}, {"role": "assistant", "content"}]}

`group` is the unit of the split: rows that are variations of one another (a template with other numbers, the
rewritings of one question) share a group and so never meet across splits. Choices are made on validate and quoted
on test.

Sources: the built-in data (`data/instructions/`), rows as above, or four schemas of the Hugging Face hub, told apart
by their fields: MetaMathQA (Yu et al. 2023), Magicoder-OSS-Instruct (Wei et al. 2023), OpenHermes-2.5 (Teknium
2023), CodeAlpaca (Chaudhary 2023). `encode_example` and `pack` turn messages into token rows; they need a tokenizer,
no model.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from colocate.errors import InputError
from colocate.files import write_text

SPLITS = ("train", "validate", "test")
BUILTIN = Path(__file__).resolve().parents[2] / "data" / "instructions"
IGNORED = -100  # the label of a token that carries no loss (torch's cross_entropy default)
ROLES = {"system": "system", "user": "user", "assistant": "assistant", "human": "user", "gpt": "assistant"}

# For base models, whose tokenizer brings no template: plain text, every answer closed by the end-of-text token.
PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ 'Answer: ' + message['content'] + eos_token + '\n' }}"
    "{% elif message['role'] == 'user' %}{{ 'Question: ' + message['content'] + '\n' }}"
    "{% else %}{{ message['content'] + '\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Answer:' }}{% endif %}"
)


# ---------------------------------------------------------------------------------------------------- reading


def _text(row: dict, field: str, where: str, empty: bool = False) -> str:
    value = row.get(field)
    if not isinstance(value, str) or not (empty or value.strip()):
        wanted = "a text" if empty else "a text that is not empty"
        raise InputError(f"{where}: field {field!r}: expected {wanted}, found {value!r}")
    return value.strip()


def _conversation(turns, role_key: str, text_key: str, field: str, where: str) -> list[dict]:
    """Check that turns alternate user, assistant, ... (after an optional system turn) and end with the assistant."""
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise InputError(f"{where}: field {field!r}: expected a list of objects, found {turns!r:.80}")
    messages = []
    for number, turn in enumerate(turns):
        found = turn.get(role_key)
        if not isinstance(found, str) or found not in ROLES:
            allowed = ", ".join(ROLES)
            raise InputError(f"{where}: field {field}[{number}].{role_key}: found {found!r}, allowed: {allowed}")
        messages.append({"role": ROLES[found], "content": _text(turn, text_key, f"{where}: {field}[{number}]")})
    roles = [message["role"] for message in messages]
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    if not spoken or spoken != ["user", "assistant"] * (len(spoken) // 2):
        raise InputError(
            f"{where}: field {field!r}: turns must alternate user, assistant and end with the assistant, found {roles}"
        )
    return messages


def _dialogue(question: str, answer: str) -> list[dict]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _own(row: dict, where: str) -> dict:
    messages = _conversation(row["messages"], "role", "content", "messages", where)
    names = {key: _text(row, key, where) for key in ("id", "template", "group", "source") if key in row}
    return {**names, "messages": messages}


def _metamathqa(row: dict, where: str) -> dict:
    group = _text(row, "original_question" if "original_question" in row else "query", where)  # rewritings share it
    messages = _dialogue(_text(row, "query", where), _text(row, "response", where))
    return {"messages": messages, "group": group} | ({"template": str(row["type"])} if row.get("type") else {})


def _magicoder(row: dict, where: str) -> dict:
    return {"messages": _dialogue(_text(row, "problem", where), _text(row, "solution", where))}


def _openhermes(row: dict, where: str) -> dict:
    return {"messages": _conversation(row["conversations"], "from", "value", "conversations", where)}


def _codealpaca(row: dict, where: str) -> dict:
    context = _text(row, "input", where, empty=True) if "input" in row else ""
    question = "\n\n".join(part for part in (_text(row, "instruction", where), context) if part)
    return {"messages": _dialogue(question, _text(row, "output", where))}


SCHEMAS = {  # fields that tell a schema -> its reader; the first that fits wins
    ("messages",): _own,
    ("conversations",): _openhermes,
    ("query", "response"): _metamathqa,
    ("problem", "solution"): _magicoder,
    ("instruction", "output"): _codealpaca,
}


def raw_rows(path: Path) -> Iterator[tuple[str, dict]]:
    """("file:line", object) of a .jsonl file, ("file: row i", object) of a .json file that holds one list.

    Raises InputError for a file that is absent, not UTF-8 or not JSON.
    """
    try:
        with path.open("rb") as file:
            lines = [(path, file.read())] if path.suffix == ".json" else _numbered(path, file)
            for where, line in lines:
                try:
                    value = json.loads(line.decode("utf-8"))
                except UnicodeDecodeError as error:
                    raise InputError(f"{where}: not UTF-8: {error}") from error
                except json.JSONDecodeError as error:
                    raise InputError(f"{where}: not JSON: {error}") from error
                if path.suffix != ".json":
                    yield where, value
                elif isinstance(value, list):
                    yield from ((f"{path}: row {number}", row) for number, row in enumerate(value, start=1))
                else:
                    raise InputError(f"{path}: expected one JSON list of rows, found {type(value).__name__}")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error


def _numbered(path: Path, lines: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    return ((f"{path}:{number}", line) for number, line in enumerate(lines, start=1) if line.strip())


def read_rows(path: str | Path, source: str | None = None) -> list[dict]:
    """Rows of a .jsonl file, a .json list, or a folder of these, in any of SCHEMAS, in the form the module states.

    Raises InputError with file, line and field for the first row that does not fit.
    """
    path = Path(path)
    name = source or path.stem
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.rglob("*.json*") if file.suffix in (".json", ".jsonl"))
        files = [file for file in files if file.name != "manifest.json"]
        if not files:
            raise InputError(f"{path}: no .jsonl or .json file in this folder")
    rows = []
    for where, raw in (pair for file in files for pair in raw_rows(file)):
        if not isinstance(raw, dict):
            raise InputError(f"{where}: expected a JSON object, found {raw!r:.80}")
        reader = next((reader for fields, reader in SCHEMAS.items() if set(fields) <= raw.keys()), None)
        if reader is None:
            known = "; ".join("{" + ", ".join(fields) + "}" for fields in SCHEMAS)
            raise InputError(f"{where}: fields {sorted(raw)} fit no known schema; known ones hold {known}")
        row = reader(raw, where)
        question = _question(row)
        defaults = {"id": f"{name}-{len(rows)}", "template": name, "group": question, "source": name}
        rows.append(defaults | row)
    if not rows:
        raise InputError(f"{path}: no rows of instruction data")
    return rows


def _question(row: dict) -> str:
    return next(message["content"] for message in row["messages"] if message["role"] == "user")


# ----------------------------------------------------------------------------------------------------- mixing


def build_mixture(sources: list[dict], seed: int, out_dir: str | Path) -> dict[str, int]:
    """Draw from each source and write `out_dir`/{train,validate,test}.jsonl; returns the rows of each.

    A source is {"kind": "builtin" | "jsonl", "path": file or folder (jsonl only), "n": training rows (default all
    that are left), "heldout": rows of validate and of test, each (default 60), "name": label (default the file's
    name)}. The built-in data has its splits fixed, template by template, and templates take turns: a small `n` has as
    many of them as it can. Other sources are shuffled: the first groups go to test, then validate, then train. No group
    and no question is in two splits, whichever source it comes from. Deterministic given `seed`; a source's draw does
    not depend on other sources unless they share questions.
    """
    mixture = {split: [] for split in SPLITS}
    owner: dict[str, str] = {}  # group or question -> the split that has it
    seen: set[str] = set()  # questions taken: a second copy is dropped
    for number, source in enumerate(sources):
        rows, fixed = _read_source(source, number)
        wanted = {"test": source.get("heldout", 60), "validate": source.get("heldout", 60), "train": source.get("n")}
        order = np.random.default_rng([seed, number]).permutation(len(rows))
        if fixed:
            order = _in_turns(order, [row["template"] for row in rows])
        taken = {split: [] for split in wanted}
        for row in (rows[index] for index in order):
            keys = {"group " + row["group"], "question " + _question(row)}
            owners = {owner[key] for key in keys if key in owner} | ({fixed[row["id"]]} if fixed else set())
            open_splits = [split for split, n in wanted.items() if n is None or len(taken[split]) < n]
            split = owners.pop() if owners else next(iter(open_splits), None)
            if owners or split not in open_splits or _question(row) in seen:
                continue
            owner |= dict.fromkeys(keys, split)
            seen.add(_question(row))
            taken[split].append(row)
        for split, n in wanted.items():
            if len(taken[split]) < (n or 1):
                raise InputError(
                    f"sources[{number}] ({rows[0]['source']}): {split} has {len(taken[split])} of "
                    f"{n or 'at least 1'} rows; the source holds {len(rows)} rows in "
                    f"{len({row['group'] for row in rows})} groups: lower n or heldout"
                )
            mixture[split] += taken[split]
    ids = [row["id"] for rows in mixture.values() for row in rows]
    if len(ids) != len(set(ids)):
        double = next(name for name in ids if ids.count(name) > 1)
        raise InputError(f"sources: id {double!r} occurs twice; give each source its own `name`, each row its own id")
    for index, (split, rows) in enumerate(mixture.items()):
        order = np.random.default_rng([seed, len(sources), index]).permutation(len(rows))
        lines = [json.dumps(rows[i], ensure_ascii=False, sort_keys=True) + "\n" for i in order]
        write_text(Path(out_dir) / f"{split}.jsonl", "".join(lines))
    return {split: len(rows) for split, rows in mixture.items()}


def _in_turns(order, templates: list[str]) -> list[int]:
    """The same rows, first one of each template, then a second of each, and so on."""
    met = Counter()
    turn = {}
    for index in order:
        turn[index] = met[templates[index]]
        met[templates[index]] += 1
    return sorted(order, key=turn.__getitem__)


def _read_source(source: dict, number: int) -> tuple[list[dict], dict[str, str]]:
    """Rows of one source, and {id: split} where the source itself fixes its splits."""
    where = f"sources[{number}]"
    kind = source.get("kind")
    if kind not in ("builtin", "jsonl"):
        raise InputError(f"{where}.kind: found {kind!r}, allowed: builtin, jsonl")
    allowed = {"kind", "n", "heldout", "name"} | ({"path"} if kind == "jsonl" else set())
    if unknown := sorted(source.keys() - allowed):
        raise InputError(f"{where}: unknown key {unknown[0]!r}, allowed for kind {kind}: {', '.join(sorted(allowed))}")
    for key in ("n", "heldout"):
        if key in source and not (isinstance(source[key], int) and source[key] > 0):
            raise InputError(f"{where}.{key}: found {source[key]!r}, expected a number of rows above 0")
    if kind == "jsonl":
        if "path" not in source:
            raise InputError(f"{where}.path: missing; kind jsonl needs a file or a folder")
        return read_rows(source["path"], source.get("name")), {}
    rows, fixed = [], {}
    for split in SPLITS:
        part = read_rows(BUILTIN / f"{split}.jsonl")
        rows += part
        fixed |= {row["id"]: split for row in part}
    return rows, fixed


# --------------------------------------------------------------------------------------------------- encoding


def encode_example(tokenizer, messages: list[dict], chat_template: str = "auto") -> tuple[list[int], list[int]]:
    """Token ids and labels of one conversation: loss on what the assistant has to generate, nothing else.

    Returns (ids, labels), equally long lists; a label is the token's own id on an answer (including the end-of-turn
    token) and IGNORED elsewhere. What precedes an answer is tokenised exactly as at generation: the tokens of
    messages[:i] with the generation prompt must begin the tokens of messages[:i + 1], and the rest are the answer.
    Whitespace that a template puts behind the end-of-turn token is not learnt, and cut at the end.

    `chat_template`: "auto" = the tokenizer's own or, where it has none, PLAIN_TEMPLATE; "plain"; or a Jinja template.
    Raises InputError where a template rewrites what it wrote before (some drop earlier turns): no mask would be right.
    """
    template = _template(tokenizer, chat_template)
    ids = _tokens(tokenizer, messages, template, prompt=False)
    labels = [IGNORED] * len(ids)
    special = set(tokenizer.all_special_ids)
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prefix = _tokens(tokenizer, messages[:index], template, prompt=True)
        through = _tokens(tokenizer, messages[: index + 1], template, prompt=False)
        if not prefix or ids[: len(prefix)] != prefix or ids[: len(through)] != through or len(through) == len(prefix):
            raise InputError(
                f"chat template: the prompt of message {index} is not the beginning of the whole conversation, so "
                f"the answer cannot be told from the prompt (answer: {message['content'][:60]!r}); set chat_template "
                "to plain or to a Jinja template that only appends"
            )
        end = len(through)
        if closing := [i for i in range(len(prefix), end) if ids[i] in special]:
            end = closing[-1] + 1
        labels[len(prefix) : end] = ids[len(prefix) : end]
    last = max((i for i, label in enumerate(labels) if label != IGNORED), default=-1)
    return ids[: last + 1], labels[: last + 1]


def _template(tokenizer, chat_template: str) -> str:
    if chat_template == "auto":
        return tokenizer.chat_template or PLAIN_TEMPLATE
    if chat_template == "plain":
        return PLAIN_TEMPLATE
    if "{" not in chat_template:
        raise InputError(f"chat_template: found {chat_template!r}, allowed: auto, plain, or a Jinja template")
    return chat_template


def _tokens(tokenizer, messages: list[dict], template: str, prompt: bool) -> list[int]:
    text = tokenizer.apply_chat_template(messages, chat_template=template, add_generation_prompt=prompt, tokenize=False)
    # A chat template writes its own special tokens; plain text gets those that the tokenizer adds to any text (BOS).
    return tokenizer(text, add_special_tokens=template == PLAIN_TEMPLATE)["input_ids"]


def pack(examples: list[tuple[list[int], list[int]]], max_length: int) -> list[dict[str, list[int]]]:
    """Put several (ids, labels) into each row of at most `max_length` tokens: first fit in the given order.

    Returns rows {"input_ids", "labels", "position_ids", "example"}, equally long lists: positions restart at 0 with
    each example, `example` is its index in `examples`. Rows have different lengths; there is no padding.
    Raises InputError for an example that is longer than a row, or whose first token has a label (it would be
    predicted from its neighbour in the row).
    """
    rows: list[dict[str, list[int]]] = []
    for index, (ids, labels) in enumerate(examples):
        if len(ids) > max_length:
            raise InputError(f"example {index} has {len(ids)} tokens, a row at most {max_length}: raise max_length")
        if len(ids) != len(labels) or not ids or labels[0] != IGNORED:
            raise InputError(f"example {index}: needs as many labels as tokens, and no label on its first token")
        row = next((row for row in rows if len(row["input_ids"]) + len(ids) <= max_length), None)
        if row is None:
            rows.append(row := {"input_ids": [], "labels": [], "position_ids": [], "example": []})
        row["input_ids"] += ids
        row["labels"] += labels
        row["position_ids"] += range(len(ids))
        row["example"] += [index] * len(ids)
    return rows
