"""``collabdesign schema``: the JSON Schema of files that a person writes."""

from __future__ import annotations

import json

from collabdesign.cli.streams import say_line
from collabdesign.design.files.schema import prototype_schema, requirements_schema


def schema(prototype: bool) -> int:
    """Print a JSON Schema."""
    say_line(json.dumps(prototype_schema() if prototype else requirements_schema(), indent=2))
    return 0
