"""Reading plain requests: taken only where no two readers could disagree."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.gateway.plain import Part, Plain, read_plain

LIMIT = 1000
ORDER = "0190f8a0-0000-7001-8000-000000000001"


def request(
    *headers: str, target: str = "/v1/orders", method: str = "POST", body: bytes = b"{}"
) -> bytes:
    """A request with a host and a length unless the headers say otherwise."""
    lines = [f"{method} {target} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def test_an_order_is_read():
    """Path, headers and body of a new order; names of headers in any case, blanks around values cut."""
    data = request(
        "authorization:Bearer k ",
        "IDEMPOTENCY-KEY:\t a",
        "Content-Type: application/json",
        "Accept: */*",
        "Connection: Keep-Alive",
    )
    plain = read_plain(data + b"POST", body_max=LIMIT)
    assert plain == Plain(
        path="/v1/orders",
        order_id=None,
        end=None,
        authorization="Bearer k",
        key="a",
        content_type="application/json",
        body=b"{}",
        size=len(data),
        host="x",
        accept="*/*",
    )


@pytest.mark.parametrize("end", ["clear", "void"])
def test_an_end_is_read(end):
    """Order and kind of an end; without a stated length there is no body."""
    data = f"POST /v1/orders/{ORDER}/{end} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    plain = read_plain(data, body_max=LIMIT)
    assert isinstance(plain, Plain)
    assert (plain.order_id, plain.end, plain.body, plain.size) == (ORDER, end, b"", len(data))


@pytest.mark.parametrize(
    "data",
    [
        request(method="GET"),
        request(target="/v1/orders/bulk"),
        request(target="/v1/orders?x=1"),
        request(target="/v1/ordersx"),
        request(target=f"/v1/orders/{ORDER}"),
        request(target=f"/v1/orders/{ORDER.upper().replace('0', 'A')}/clear"),
        request(target="http://x/v1/orders"),
        request().replace(b"HTTP/1.1", b"HTTP/1.0"),
        request().replace(b"Host", b"Ghost"),
        request("Content-Length: 2"),
        request("Transfer-Encoding: chunked"),
        request("Transfer-Encoding : chunked"),
        request(" folded"),
        request("no colon"),
        request(": nameless"),
        request("Expect: 100-continue"),
        request("Connection: close"),
        request("Connection: keep-alive, upgrade"),
        request("Upgrade: websocket"),
        request("Content-Encoding: gzip"),
        request("Authorization: a", "authorization: b"),
        request("Idempotency-Key: a", "Idempotency-Key: b"),
        request("Host: y"),
        request("X: a\nTransfer-Encoding: chunked"),
        request("X: a\rb"),
        request("X: a\0b"),
        request("Ünicode: a"),
        request().replace(b"Content-Length: 2", b"Content-Length: +2"),
        request().replace(b"Content-Length: 2", b"Content-Length: 2, 2"),
        request().replace(b"Content-Length: 2", b"Content-Length: 0x2"),
        request().replace(b"Content-Length: 2", b"Content-Length: \xb2"),
        request().replace(b"Content-Length: 2", b"Content-Length:"),
        request().replace(b"Content-Length: 2", b"Content-Length: 0000002"),
        request(body=b"x" * (LIMIT + 1)),
        request().replace(b"\r\n", b"\n"),
        b"POST /v1/orders\r\n\r\n",
        b"\r\n" + request(),
        b"x",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        request("X: " + "a" * 9000),
        b"POST /v1/orders HTTP/1.1\r\nX: " + b"a" * 9000,
    ],
)
def test_anything_unusual_goes_to_the_full_parser(data):
    """RFC 9112 §11.2: what could be read in two ways, or is simply not an order, is not judged here."""
    assert read_plain(data, body_max=LIMIT) is Part.NOT_PLAIN


@given(st.integers(0, 200), st.sampled_from(["/v1/orders", f"/v1/orders/{ORDER}/clear"]))
def test_a_beginning_is_incomplete(cut, target):
    """However a request is cut on its way, its beginning is waited for and the whole is read."""
    data = request("Authorization: Bearer k", "Idempotency-Key: a", target=target)
    part = data[:cut]
    outcome = read_plain(part, body_max=LIMIT)
    if cut < len(data):
        assert outcome is Part.INCOMPLETE
    else:
        assert isinstance(outcome, Plain)


@given(st.binary(max_size=300))
def test_no_bytes_are_a_fault(junk):
    """Whatever arrives is read, waited for or handed over."""
    for data in (junk, request()[:20] + junk, request()[:-2] + junk):
        assert isinstance(read_plain(data, body_max=LIMIT), Plain | Part)
