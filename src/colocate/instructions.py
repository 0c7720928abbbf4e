"""Instruction data: read rows, mask the loss, pack.

A mixture (colocate.mixtures) is three JSONL files (train, validate, test) of rows

    {"id", "template", "group", "source", "messages": [{"role": "user", "content"}, {"role": "assistant", "content"}]}

`group` is the unit of the split: rows that are variations of one another (a template with other numbers, the
rewritings of one question) share a group and so never meet across splits. Choices are made on validate and quoted
on test.

Sources: the built-in data (`data/instructions/`), rows as above, or four schemas of the Hugging Face hub, told apart
by their fields: MetaMathQA (Yu et al. 2023), Magicoder-OSS-Instruct (Wei et al. 2023), OpenHermes-2.5 (Teknium
2023), CodeAlpaca (Chaudhary 2023). `encode_example` and `pack` turn messages into token rows; they need a tokenizer,
no model.
"""

from pathlib import Path

from colocate import rows as data_rows
from colocate.errors import InputError

SPLITS = ("train", "validate", "test")
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


def _gsm8k(row: dict, where: str) -> dict:
    return {"messages": _dialogue(_text(row, "question", where), _text(row, "answer", where))}


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
    ("question", "answer"): _gsm8k,
}


def read_rows(path: str | Path, source: str | None = None) -> list[dict]:
    """Rows of a file, or of a folder of them (colocate.rows), in any of SCHEMAS, in the form the module states.

    Raises InputError with file, line and field for the first row that does not fit.
    """
    path = Path(path)
    name = source or path.stem
    pairs = (pair for file in data_rows.files_of(path) for pair in data_rows.read(file))
    rows = [as_row(raw, where, name, number) for number, (where, raw) in enumerate(pairs)]
    if not rows:
        raise InputError(f"{path}: no rows of instruction data")
    return rows


def as_row(raw, where: str, name: str, number: int) -> dict:
    """One row of any of SCHEMAS in the form the module states; `name` of its source, `number` in it (for the id)."""
    if not isinstance(raw, dict):
        raise InputError(f"{where}: expected a JSON object, found {raw!r:.80}")
    reader = next((reader for fields, reader in SCHEMAS.items() if set(fields) <= raw.keys()), None)
    if reader is None:
        known = "; ".join("{" + ", ".join(fields) + "}" for fields in SCHEMAS)
        raise InputError(f"{where}: fields {sorted(raw)} fit no known schema; known ones hold {known}")
    row = reader(raw, where)
    return {"id": f"{name}-{number}", "template": name, "group": question(row), "source": name} | row


def question(row: dict) -> str:
    """What the user asks first."""
    return next(message["content"] for message in row["messages"] if message["role"] == "user")


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
