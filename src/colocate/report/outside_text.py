"""Text that a model or a data set wrote, made fit for a page: harmless, bounded, and read in the order it is stored.

Escaping is the template's. Here go what escaping leaves: characters that turn the direction of all that follows, or
cannot be seen, are named (U+202E); marks piled on one letter beyond `MARKS` are dropped; a long text is cut, and says
by how much.
"""

import re

MARKS = 3  # combining marks on one letter: enough for every script's own spelling
CHARACTERS, LINES = 600, 12
# Direction overrides and isolates, marks of direction, line and paragraph separators, controls but for tab and new
# line, halves of surrogate pairs, tags, and the byte order mark.
UNSEEN = re.compile(
    "[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
MARK = "[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
PILED = re.compile(f"({MARK}{{{MARKS}}}){MARK}+")


def shown(text, characters: int = CHARACTERS, lines: int = LINES, keep: str = "start") -> str:
    """`text` as a page shows it, at most about `characters` long and `lines` high; "" where there is none.

    keep    what stays of a long text: its `start`, or its `end` (a prompt ends with the question itself)
    """
    if text is None or text != text:  # NaN
        return ""
    text = str(text)
    cut = _lines(_characters(text, characters, keep), lines, keep)
    left_out = len(text) - len(cut)
    cut = UNSEEN.sub(lambda found: f"U+{ord(found.group()):04X}", PILED.sub(r"\1", cut))
    if not left_out:
        return cut
    note = f"[{left_out:,} characters left out]"
    return f"{cut} {note}" if keep == "start" else f"{note} {cut}"


def _characters(text: str, limit: int, keep: str) -> str:
    return text[:limit] if keep == "start" else text[-limit:]


def _lines(text: str, limit: int, keep: str) -> str:
    parts = text.splitlines(keepends=True)
    return "".join(parts[:limit] if keep == "start" else parts[-limit:])
