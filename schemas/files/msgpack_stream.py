"""A file of msgpack objects, read one at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Final

import msgpack  # type: ignore[import-untyped]

from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterator

_OBJECT_BYTES_MAX: Final = 16 * 1024 * 1024


def read_objects(file: BinaryIO, size: int) -> Iterator[object]:
    """Objects of a msgpack stream, one at a time.

    Args:
        file: The open file, at its beginning.
        size: Its length in bytes.

    Raises:
        SchemaError: The bytes are no msgpack, or end within an object.
    """
    unpacker = msgpack.Unpacker(
        file, raw=False, strict_map_key=True, max_buffer_size=_OBJECT_BYTES_MAX
    )
    number = end = 0
    try:
        for value in unpacker:
            # Asked for after each object: after a broken one it would count what was tried in vain.
            end = unpacker.tell()
            yield value
            number += 1
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise SchemaError(
            f"$[{number}]", f"not msgpack: {str(error) or type(error).__name__}"
        ) from error
    if end != size:
        raise SchemaError(f"$[{number}]", "the file ends within an object")
