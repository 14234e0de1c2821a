"""JSON Schemas of what a person writes, so that an editor completes and checks it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from collabdesign.design.prototype import Prototype
from collabdesign.design.requirements import Family, Requirements, Search
from collabdesign.design.sources import SOURCES, foreign_keys

_DRAFT = "https://json-schema.org/draft/2020-12/schema"


class _Generator(GenerateJsonSchema):
    """Leaves out titles that only repeat a key."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def prototype_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a prototype file."""
    return {"$schema": _DRAFT, **Prototype.model_json_schema(schema_generator=_Generator)}


def requirements_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a requirements file as it is written.

    Quantities are text or whole numbers, the prototype is a path or a mapping, and what is
    found in the data may be left out.
    """
    schema = Requirements.model_json_schema(schema_generator=_Generator)
    parts = {**schema["$defs"], "Requirements": schema}
    for model in (Requirements, Search, Family):
        for key, field in model.model_fields.items():
            if isinstance(field.default, BaseModel):  # a heading with nothing below it
                written = parts[model.__name__]["properties"][key]
                reference = written.pop("$ref")
                written.pop("default")
                written["anyOf"] = [{"$ref": reference}, {"type": "null"}]
    prototype = schema["properties"]["prototype"]
    prototype["anyOf"] = [{"type": "string", "minLength": 1}, {"$ref": prototype.pop("$ref")}]
    data = parts["Data"]
    data["required"] = ["source"]
    data["allOf"] = [
        {
            "if": {"properties": {"source": {"const": source}}},
            "then": {
                "required": [*row.needs, *row.untold],
                "properties": {key: {"enum": [None, False]} for key in foreign_keys(source)},
            },
        }
        for source, row in SOURCES.items()
    ]
    return {"$schema": _DRAFT, **schema}
