"""Values of which the records say only that they are JSON: how deep they may nest, and what may stand in them.

msgpack can say more than JSON (binary, instants, maps with other keys), and JSON more than a database keeps (U+0000).
What is stored and digested must be the same to every reader, so all of that is refused where it comes in.
"""

from __future__ import annotations

from math import isfinite
from typing import Final

from schemas.values.faults import SchemaError

DEPTH_MAX: Final = 16
"""Arrays and objects inside each other."""


def check_plain(value: object, *, at: str) -> None:
    """Go on where a value is plain JSON.

    Args:
        value: What was decoded.
        at: Its path, for the complaint.

    Raises:
        SchemaError: It holds something else, or nests too deeply; names the place.
    """
    waiting: list[tuple[object, str, int]] = [(value, at, 0)]
    while waiting:
        each, path, depth = waiting.pop()
        inside: list[tuple[object, str]] = []
        match each:
            case None | bool() | int():
                pass
            case float():
                if not isfinite(each):
                    raise SchemaError(path, "Expected a finite number")
            case str():
                _check_text(each, path)
            case list():
                inside = [(item, f"{path}[{place}]") for place, item in enumerate(each)]
            case dict():
                for key in each:
                    if not isinstance(key, str):
                        raise SchemaError(path, "Expected text as the name of each field")
                    _check_text(key, path)
                inside = [(item, f"{path}.{key}") for key, item in each.items()]
            case _:
                raise SchemaError(path, f"Expected plain JSON, got `{type(each).__name__}`")
        if inside and depth == DEPTH_MAX:
            raise SchemaError(at, f"Nested too deeply: at most {DEPTH_MAX} levels")
        waiting += [(item, place, depth + 1) for item, place in inside]


def _check_text(text: str, path: str) -> None:
    if "\0" in text:
        raise SchemaError(path, "Expected text without U+0000")
