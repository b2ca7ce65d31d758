"""Templates with typed placeholders, filled on our side and read back on the simulator's.

A text that is nothing but a placeholder becomes the value itself, so `"{units}"` may be a JSON number;
inside of a longer text a placeholder becomes text. Reading is the same in reverse, and what a template
does not mention may be there or not.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PLACEHOLDER: Final = re.compile(r"\{([a-z_]+)\}")


def placeholders(template: Any) -> Iterator[tuple[str, str]]:
    """Every placeholder of a template: where it stands, as `.key[0]`, and its name."""
    if isinstance(template, str):
        for name in PLACEHOLDER.findall(template):
            yield "", name
    elif isinstance(template, dict):
        for key, value in template.items():
            for where, name in placeholders(value):
                yield f".{key}{where}", name
    elif isinstance(template, list):
        for place, value in enumerate(template):
            for where, name in placeholders(value):
                yield f"[{place}]{where}", name


def filled(template: Any, known: Mapping[str, Any]) -> Any:
    """A template with values instead of its placeholders."""
    if isinstance(template, str):
        pieces = _pieces(template)
        if len(pieces) == 3 and not pieces[0] and not pieces[2]:
            return known[pieces[1]]
        return text_filled(template, known)
    if isinstance(template, dict):
        return {key: filled(value, known) for key, value in template.items()}
    if isinstance(template, list):
        return [filled(value, known) for value in template]
    return template


def text_filled(template: str, known: Mapping[str, Any]) -> str:
    """A text with values instead of its placeholders, each as text."""
    pieces = _pieces(template)
    if len(pieces) == 1:
        return template
    return "".join(
        [_text(known[piece]) if place % 2 else piece for place, piece in enumerate(pieces)]
    )


def read_back(template: Any, value: Any, found: dict[str, Any]) -> bool:
    """Whether a value is a template with some values filled in; collects those in `found`."""
    if isinstance(template, str):
        whole = PLACEHOLDER.fullmatch(template)
        if whole:
            scalar = isinstance(value, str | int) and not isinstance(value, bool)
            return scalar and _agrees(found, whole[1], value)
        return isinstance(value, str) and text_read_back(template, value, found)
    if isinstance(template, dict):
        return isinstance(value, dict) and all(
            key in value and read_back(part, value[key], found) for key, part in template.items()
        )
    if isinstance(template, list):
        return (
            isinstance(value, list)
            and len(value) == len(template)
            and all(
                read_back(part, piece, found) for part, piece in zip(template, value, strict=True)
            )
        )
    return bool(template == value)


def text_read_back(template: str, value: str, found: dict[str, Any]) -> bool:
    """Whether a text is a template with some values filled in; a value spans no slash."""
    pieces = _pieces(template)
    pattern = "".join(
        "([^/]+)" if place % 2 else re.escape(piece) for place, piece in enumerate(pieces)
    )
    match = re.fullmatch(pattern, value)
    return match is not None and all(
        _agrees(found, name, text) for name, text in zip(pieces[1::2], match.groups(), strict=True)
    )


@lru_cache(maxsize=4_096)
def _pieces(template: str) -> tuple[str, ...]:
    """A text cut at its placeholders: every second piece is a placeholder's name."""
    return tuple(PLACEHOLDER.split(template))


def _agrees(found: dict[str, Any], name: str, value: Any) -> bool:
    """Collect a value; one that stands in two places must be the same in both."""
    return str(found.setdefault(name, value)) == str(value)


def _text(value: Any) -> str:
    return bytes(value).decode() if isinstance(value, msgspec.Raw) else str(value)
