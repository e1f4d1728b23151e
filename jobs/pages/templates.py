"""The templates of this folder, in HTML and in Markdown, with the filters that all of them use."""

from pathlib import Path

import jinja2

from jobs.pages import words

_FILTERS = {
    "count": words.count,
    "number": words.number,
    "percent": words.percent,
    "duration": words.duration,
}


def html(name: str) -> jinja2.Template:
    """A page in HTML; values are escaped."""
    return _environment(autoescape=True).get_template(name)


def markdown(name: str) -> jinja2.Template:
    """A page in Markdown; a text that somebody else wrote goes through the filter `plain`."""
    environment = _environment(autoescape=False)
    environment.filters["plain"] = plain
    return environment.get_template(name)


def plain(text: str) -> str:
    """A text that cannot end its line or its cell of a table, and that is not taken for Markdown."""
    return "".join(f"\\{sign}" if sign in r"\`*_[]<>|#" else sign for sign in " ".join(text.split()))


def _environment(*, autoescape: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= _FILTERS
    return environment
