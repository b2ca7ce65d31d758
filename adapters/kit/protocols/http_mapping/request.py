"""Requests made of an operation's templates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from adapters.kit.http import HttpRequest
from adapters.kit.protocols.http_mapping.figures import amount_written, time_written, write_json
from adapters.kit.protocols.http_mapping.template import PLACEHOLDER, filled, text_filled

if TYPE_CHECKING:
    from collections.abc import Mapping as Known

    from adapters.kit.contract import Call
    from adapters.kit.protocols.http_mapping.mapping import Mapping, Operation


def known_of(mapping: Mapping, call: Call) -> dict[str, Any]:
    """What a request about a call is filled with."""
    file, manifest = mapping.file, mapping.manifest
    return {
        "reference": call.reference,
        "member": call.member,
        "units": amount_written(call.units, file.amount.form, manifest.points.scale),
        "of": call.of,
        "number": call.of_receipt,
        "at": time_written(call.at_us, file.time.form, manifest.hours.zone),
        "step": mapping.word(call.step),
    }


def request_of(operation: Operation, known: Known[str, Any]) -> HttpRequest:
    """Fill an operation's templates.

    Args:
        operation: The operation.
        known: A value for each of its placeholders.
    """
    in_path = {
        name: quote(str(known[name]), safe="") for name in PLACEHOLDER.findall(operation.path)
    }
    query = ((key, text_filled(value, known)) for key, value in operation.query.items())
    headers = {name: text_filled(value, known) for name, value in operation.headers.items()}
    body = b""
    if operation.body is not None:
        body = write_json(filled(operation.body, known))
        headers.setdefault("Content-Type", "application/json")
    return HttpRequest(
        method=operation.method,
        path=text_filled(operation.path, in_path),
        query=tuple((key, value) for key, value in query if value),
        headers={"Accept": "application/json", **headers},
        body=body,
    )
