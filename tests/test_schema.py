"""The schemas: they are ones, shipped files keep them, and an editor sees what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from requirements_files import (
    REQUIREMENTS,
    SHIPPED,
    WRONG,
    Wrong,
    load_shipped,
    shipped,
    write_example,
)

from collabdesign.design.files.document import read_text
from collabdesign.design.files.schema import prototype_schema, requirements_schema
from collabdesign.design.sources import SOURCES, Data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_example(tmp_path)
    return tmp_path


@pytest.fixture(scope="module", params=["requirements", "prototype"])
def schema(request: pytest.FixtureRequest) -> dict[str, Any]:
    make: Callable[[], dict[str, Any]] = (
        requirements_schema if request.param == "requirements" else prototype_schema
    )
    return make()


def errors_in(schema: dict[str, Any], written: Any) -> list[str]:
    validator = jsonschema.Draft202012Validator(schema)
    return [error.message for error in validator.iter_errors(written)]


def test_schemas_are_schemas_and_tell_what_each_key_is(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    json.dumps(schema, allow_nan=False)
    for part in [schema, *schema["$defs"].values()]:
        for key, value in part["properties"].items():
            reference = json.dumps(value).partition("#/$defs/")[2].partition('"')[0]
            described = "description" in value or "description" in schema["$defs"][reference]
            assert described, f"{part['title']}.{key}"


@pytest.mark.parametrize("path", shipped(), ids=lambda path: path.stem)
def test_shipped_requirements_keep_the_schema(path: Path, folder: Path) -> None:
    assert errors_in(requirements_schema(), read_text(path.read_text()).data) == []
    assert errors_in(requirements_schema(), load_shipped(path, folder).to_dict()) == []
    assert path.read_text().startswith("# yaml-language-server: $schema=schema.json\n")


@pytest.mark.parametrize(
    "path", sorted((SHIPPED / "prototypes").glob("*.yaml")), ids=lambda path: path.stem
)
def test_shipped_prototypes_keep_the_schema(path: Path) -> None:
    assert errors_in(prototype_schema(), read_text(path.read_text()).data) == []


def test_the_shipped_schema_is_this_one() -> None:
    assert json.loads((SHIPPED / "schema.json").read_text()) == requirements_schema()


# What a schema cannot tell: what lies in folders, and that NaN is no number.
_BEYOND_SCHEMA = ("^gone", "^images/", "^proto", "\\0", "classes", ".nan", "60.0", "^3,", "^1,5")


@pytest.mark.parametrize(
    "wrong",
    [wrong for wrong in WRONG if not any(word in wrong.new for word in _BEYOND_SCHEMA)],
    ids=lambda wrong: f"{wrong.old[:12]}->{wrong.new[-30:]}",
)
def test_an_editor_sees_what_is_wrong(wrong: Wrong) -> None:
    written = read_text(REQUIREMENTS.replace(wrong.old, wrong.new.replace("^", ""), 1)).data
    assert errors_in(requirements_schema(), written)


def test_every_source_is_described() -> None:
    description = Data.model_fields["source"].description or ""
    assert all(f"{source}:" in description for source in SOURCES)
