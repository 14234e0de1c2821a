"""What is handed over as text, from the templates beside this module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

Filters = Mapping[str, Callable[..., Any]]


def render(template: str, filters: Filters = MappingProxyType({}), **values: Any) -> str:
    """The text of a template, with these values; in HTML all that they hold is escaped.

    Args:
        template: Its file, from this folder.
        filters: That it uses, beside those of Jinja.
        values: By the names that stand in it.
    """
    environment = Environment(
        loader=PackageLoader("collabdesign.deliver", ""),
        autoescape=template.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= filters
    return environment.get_template(template).render(values)
