"""Canonical bytes of many events at once: a numpy array whose records lie as `pack_event` packs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from settlement.core.event import COLUMNS, EPOCH_2000_US, pack_event

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Events = npt.NDArray[np.void]

_FORMATS: Final = (">i8",) * 12 + ("V16",) * 2 + (">i4",) * 5 + (">i2",) * 4
_RECORD: Final = np.dtype(
    [
        ("columns", ">i2"),
        *(
            field
            for name, form in zip(COLUMNS[:-1], _FORMATS, strict=True)
            for field in ((f"{name} bytes", ">i4"), (name, form))
        ),
        ("reference bytes", ">i4"),
    ]
)
_ZERO: Final = pack_event(
    0, 0, *(EPOCH_2000_US,) * 3, *(0,) * 7, bytes(16), bytes(16), *(0,) * 9, ""
)


def empty_events(count: int) -> Events:
    """Events whose every figure is 0, to be filled by the names of `COLUMNS` but the reference.

    Instants count microseconds since 2000 here, as the bytes do. numpy cuts what does not fit a
    column without a word, so whoever fills it has looked.
    """
    record: npt.NDArray[Any] = np.frombuffer(_ZERO, _RECORD)
    return np.repeat(record, count)


def join_events(events: Events, references: Sequence[str]) -> bytes:
    """The canonical bytes of events, one after the other.

    Args:
        events: Everything but the references.
        references: The references, or nothing if all of them are empty.
    """
    if not references:
        return events.tobytes()
    texts = [reference.encode() for reference in references]
    events["reference bytes"] = [len(text) for text in texts]
    fixed = events.tobytes()
    size = _RECORD.itemsize
    return b"".join(
        piece
        for place, text in enumerate(texts)
        for piece in (fixed[place * size : (place + 1) * size], text)
    )
