"""The schema of a config: its violations in words, its defaults, and the tables of config/README.md made from it."""

import copy
import difflib
from pathlib import Path

import yaml

SCHEMA = Path(__file__).resolve().parents[2] / "workflow/schemas/config.schema.yaml"


def load() -> dict:
    return yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))


def path_of(path) -> str:
    return ".".join(str(part) for part in path) or "the top level"


def near(found, allowed) -> str:
    """The one of the allowed words that was probably meant, as a question, or nothing."""
    close = difflib.get_close_matches(str(found), list(map(str, allowed)), n=1, cutoff=0.7)
    return f" (did you mean {close[0]}?)" if close else ""


def _looks_like(value, wanted: str) -> str:
    """What YAML made of a value that a person meant otherwise."""
    if wanted in ("number", "integer") and isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            return ""
        right = f"{number:g}" if number == int(number) else str(number)
        if "e" in value.lower() and wanted == "number":
            right = f"{number:.1e}"
        return f"; write it without quotes and, in exponents, with a point and a sign: {right}"
    if wanted == "string" and isinstance(value, bool | int | float):
        return "; YAML reads this word as a number or as yes/no: put it in quotes"
    if wanted == "array" and isinstance(value, str):
        return f"; a list of one is [{value}]"
    if value is None:
        return "; give it a value, or leave the key out"
    return ""


def unknown_keys(error) -> list[str]:
    """Of a violation: the keys that the schema does not know."""
    known = error.schema.get("properties", {}) if error.validator == "additionalProperties" else error.instance
    return sorted(map(str, set(error.instance) - set(known))) if isinstance(error.instance, dict) else []


def violation(error) -> str:
    """Say what one schema violation found and what would be right."""
    found = "nothing (null)" if error.instance is None else repr(error.instance)
    kind, rule = error.validator, error.validator_value
    if kind == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        unknown = unknown_keys(error)
        meant = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"; did you mean {meant[0]}?" if meant else "."
        return f"unknown key {unknown[0]}{hint} Allowed: {', '.join(known)}"
    if kind == "required":
        missing = [key for key in rule if key not in error.instance]
        about = error.schema.get("properties", {}).get(missing[0], {}).get("description", "")
        return f"key {missing[0]} is missing" + (f"; add it ({about.rstrip('.')})" if about else "; add it")
    if kind == "enum" and error.instance is not None:
        found += near(error.instance, rule)
    examples = ", ".join(map(str, error.schema.get("examples", ())))
    said = {
        "type": f"must be of type {rule}{_looks_like(error.instance, rule) if kind == 'type' else ''}",
        "enum": f"must be one of {', '.join(map(str, rule))}" if kind == "enum" else "",
        "const": f"must be {rule}",
        "pattern": f"must match {rule}" + (f", such as {examples}" if examples else ""),
        "minimum": f"must be at least {rule}",
        "exclusiveMinimum": f"must be above {rule}",
        "maximum": f"must be at most {rule}",
        "exclusiveMaximum": f"must be below {rule}",
        "minItems": f"must have at least {rule} entries",
        "maxItems": f"must have at most {rule} entries",
        "uniqueItems": "must not name anything twice",
        "minProperties": f"must have at least {rule} entry",
    }.get(kind, error.message)
    about = error.schema.get("description", "")
    return f"found {found}; it {said}" + (f" ({about.rstrip('.')})" if about else "")


def with_defaults(value, part: dict, definitions: dict):
    """Fill in the defaults that the schema states, all the way down."""
    if "$ref" in part:
        part = definitions[part["$ref"].rsplit("/", 1)[1]]
    if isinstance(value, dict):
        for key, inner in part.get("properties", {}).items():
            if key not in value and "default" in inner:
                value[key] = copy.deepcopy(inner["default"])
            if key in value:
                value[key] = with_defaults(value[key], inner, definitions)
        extra = part.get("additionalProperties")
        if isinstance(extra, dict):
            for key in value:
                value[key] = with_defaults(value[key], extra, definitions)
    if isinstance(value, list) and "items" in part:
        value = [with_defaults(one, part["items"], definitions) for one in value]
    return value


def reference_table(rules: dict | None = None) -> str:
    """The Markdown tables of config/README.md: every key with type, default and description, out of the schema."""
    rules = rules or load()
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]

    def describe(part: dict) -> str:
        if "enum" in part:
            return " \\| ".join(map(str, part["enum"]))
        return part.get("type", str(part.get("const", ""))).replace("const", "")

    def walk(prefix: str, part: dict) -> None:
        if "$ref" in part:
            part = {**rules["$defs"][part["$ref"].rsplit("/", 1)[1]], **{k: v for k, v in part.items() if k != "$ref"}}
        default = part.get("default", "")
        shown = "" if default in ("", {}) else f"`{default}`"
        if prefix:
            lines.append(f"| `{prefix}` | {describe(part)} | {shown} | {part.get('description', '')} |")
        for key, inner in part.get("properties", {}).items():
            walk(f"{prefix}.{key}" if prefix else key, inner)
        if isinstance(part.get("additionalProperties"), dict):
            walk(f"{prefix}.NAME", part["additionalProperties"])
        if part.get("items", {}).get("type") == "object":
            walk(f"{prefix}[]", part["items"])

    walk("", rules)
    return "\n".join(lines) + "\n"
