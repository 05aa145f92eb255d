"""`cp2 schema`: every key of the settings, from their classes."""

import json
from typing import Any

from pydantic import TypeAdapter

from cp2.settings.campaign import CampaignSettings
from cp2.settings.load import SECTIONS
from cp2.settings.sites import SiteSettings

PARTS = {"campaign": CampaignSettings, **SECTIONS, "sites": SiteSettings}
_WORDS = {"integer": "whole number", "string": "text", "boolean": "true or false"}
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def reference(parts: list[str]) -> str:
    """All keys of some sections as Markdown: one table a class, each class once."""
    classes: dict[str, dict[str, Any]] = {}
    named = set()  # what a file holds, whose `name` is the file's
    lines = ["# Settings", "", "Written by `cp2 schema`; a key without a default must be given."]
    for part in parts:
        schema = TypeAdapter(PARTS[part]).json_schema(ref_template="{model}")
        found = schema.pop("$defs", {})
        if "properties" in schema:
            found[schema["title"]] = schema
            schema = {"$ref": schema["title"]}
        classes |= found
        lines += ["", f"**{part}**: {_kind(schema)}"]
        named |= {one["$ref"] for one in schema.get("oneOf", [schema])}
    for name in sorted(classes):
        described = (
            classes[name].get("description", "").split("\n\n    ")[0].split("\nAttributes")[0]
        )
        lines += ["", f"## {name}", "", *described.strip().splitlines()]
        rows = dict(classes[name].get("properties", {}))
        if name in named:
            rows.pop("name", None)
        needed = classes[name].get("required", ())
        lines += ["", "| key | value | default |", "|---|---|---|"] if rows else []
        lines += [f"| `{k}` | {_kind(v)} | {_default(v, k in needed)} |" for k, v in rows.items()]
    return "\n".join(lines) + "\n"


def _default(schema: dict[str, Any], needed: bool) -> str:
    text = json.dumps(schema.get("default"), ensure_ascii=False)
    return "" if needed else f"`{text}`" if len(text) < 60 else "see its table"


def _kind(schema: dict[str, Any]) -> str:
    """What a key takes, in words."""
    if "$ref" in schema:
        return f"[{schema['$ref']}](#{schema['$ref'].lower()})"
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema.get("enum", [schema.get("const")]))
    if several := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(map(_kind, several))
    if "prefixItems" in schema:
        return f"[{', '.join(map(_kind, schema['prefixItems']))}]"
    match schema.get("type"):
        case "array":
            return f"list of {_kind(schema.get('items', {}))}"
        case "object":
            each = schema.get("additionalProperties")
            return f"names, each {_kind(each)}" if isinstance(each, dict) else "keys and values"
        case kind:
            given = {sign: schema.get(key) for key, sign in _BOUNDS.items()}
            bounds = [f"{sign} {given[sign]}" for sign in given if given[sign] not in (None, 2**31)]
            word = _WORDS.get(str(kind), str(kind or "anything"))
            return f"{word} {' and '.join(bounds)}".rstrip()
