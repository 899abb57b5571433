"""The pages' templates: every text is escaped, a name that is not there is an error."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from simulations.report.words import count, duration, percent

if TYPE_CHECKING:
    from jinja2 import Template


def open_template(name: str) -> Template:
    """Open a template of this folder.

    Args:
        name: Its file name; what it includes is in this folder as well.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    folder = resources.files("simulations.report")
    environment = Environment(
        loader=FunctionLoader(lambda asked: folder.joinpath(asked).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(count=count, percent=percent, duration=duration)
    return environment.get_template(name)
