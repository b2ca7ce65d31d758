"""A statement that comes in pages: asked for one after the other, counted, and compared with its totals."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from yarl import URL

from adapters.kit.contract import Incomplete, NotSent, Outcome, StatementLine
from adapters.kit.http import HttpRequest
from adapters.kit.protocols.http_mapping.figures import (
    Figure,
    amount_read,
    day_written,
    time_read,
)
from adapters.kit.protocols.http_mapping.request import request_of
from adapters.kit.protocols.http_mapping.rules import judge, search
from adapters.kit.protocols.http_mapping.template import text_filled

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from adapters.kit.http import HttpAnswer
    from adapters.kit.protocols.http_mapping.mapping import Mapping

PAGES_MAX: Final = 100_000
"""A statement of more pages goes in a circle."""
_NEXT: Final = re.compile(r'<(?P<address>[^>]*)>[^,]*;\s*rel="?next"?(?:[;,\s]|\Z)')


class Pages:
    """One statement on its way; reads each page as it comes."""

    def __init__(self, mapping: Mapping, day: date, base_url: str) -> None:
        """Begin with the first page of a day."""
        operation = mapping.file.calls.statement
        if operation is None:
            raise NotSent("The system has no statement.")
        self._mapping = mapping
        self._operation = operation
        self._base = URL(base_url)
        self._count = 0
        self._sum = 0
        self._total: Any = None
        self._sum_said: Any = None
        self._pages = 0
        self._marks: set[str] = set()
        self._known: dict[str, Any] = {
            "day": day_written(day, mapping.file.time.day),
            "page": operation.paging.first,
            "cursor": "",
            "size": operation.paging.size,
        }
        self._next: HttpRequest | None = self._filled()

    def next_request(self) -> HttpRequest | None:
        """What to ask for next; None after the last page."""
        return self._next

    def read(self, answer: HttpAnswer | None) -> Iterator[StatementLine]:
        """Read a page.

        Raises:
            Incomplete: There is no page, or something in it is not understood.
            NotSent: The system did not take the question for the first page.
        """
        self._pages += 1
        if answer is None:
            raise Incomplete(f"Page {self._pages} did not come whole.")
        verdict = judge(self._mapping, "statement", answer.status, answer.body, "")
        if verdict.later and self._pages == 1:
            raise NotSent(verdict.detail)
        if verdict.outcome is not Outcome.DONE:
            raise Incomplete(f"Page {self._pages} is no statement. {verdict.detail}".strip())
        lines = search(self._operation.lines.items, verdict.body)
        if not isinstance(lines, list):
            raise Incomplete(f"Page {self._pages} has no list of lines.")
        paging = self._operation.paging
        if paging.total:
            self._total = self._same(self._total, search(paging.total, verdict.body))
        if paging.sum:
            self._sum_said = self._same(self._sum_said, search(paging.sum, verdict.body))
        self._next = self._after(answer, verdict.body, has_lines=bool(lines))
        for line in lines:
            yield self._line(line)

    def finish(self) -> None:
        """Compare the control totals.

        Raises:
            Incomplete: They are missing or differ.
        """
        paging, form = self._operation.paging, self._mapping.file.amount.form
        if paging.total and _whole(self._total) != self._count:
            raise Incomplete(f"The statement has {self._count} lines, but says {self._total!r}.")
        if paging.sum:
            try:
                said = amount_read(self._sum_said, form, self._mapping.manifest.points.scale)
            except ValueError:
                said = -1
            if said != self._sum:
                raise Incomplete(f"The lines add up to {self._sum} units, not to {said}.")

    def _filled(self) -> HttpRequest:
        return request_of(self._operation, self._known)

    def _after(self, answer: HttpAnswer, body: Any, *, has_lines: bool) -> HttpRequest | None:
        """The request for the page after this one."""
        paging = self._operation.paging
        if self._pages >= PAGES_MAX:
            raise Incomplete(f"The statement has more than {PAGES_MAX} pages.")
        match paging.way:
            case "page":
                more = search(paging.more, body)
                if not isinstance(more, bool):
                    raise Incomplete(f"Page {self._pages} does not say whether there is another.")
                if more and not has_lines:
                    raise Incomplete(f"Page {self._pages} is empty, and not the last.")
                self._known["page"] += 1
                return self._filled() if more else None
            case "cursor":
                cursor = search(paging.cursor, body)
                return self._at_cursor(cursor)
            case "link":
                link = search(paging.link, body) if paging.link else _link(answer)
                return self._at_link(link)
            case "none":
                return None

    def _at_cursor(self, cursor: Any) -> HttpRequest | None:
        if cursor is None or cursor == "":
            return None
        if isinstance(cursor, bool) or not isinstance(cursor, str | int):
            raise Incomplete(f"Page {self._pages} has a cursor that is neither text nor number.")
        self._mark(str(cursor))
        self._known["cursor"] = cursor
        return self._filled()

    def _at_link(self, link: Any) -> HttpRequest | None:
        """Follow a link, but only below the merchant's own address: our key goes with it."""
        if link is None or link == "":
            return None
        if not isinstance(link, str):
            raise Incomplete(f"Page {self._pages} has a link that is no text.")
        self._mark(link)
        try:
            url = self._base.join(URL(link, encoded=True))
        except ValueError:
            raise Incomplete(f"Page {self._pages} has a link that is no address.") from None
        base = self._base.raw_path.rstrip("/")
        if url.origin() != self._base.origin() or not url.raw_path.startswith(f"{base}/"):
            raise Incomplete(f"Page {self._pages} has a link to another system.")
        known = self._known
        headers = {name: text_filled(text, known) for name, text in self._operation.headers.items()}
        return HttpRequest(
            method="GET",
            path=url.raw_path[len(base) :],
            query=tuple(parse_qsl(url.raw_query_string, keep_blank_values=True)),
            headers={"Accept": "application/json", **headers},
        )

    def _mark(self, mark: str) -> None:
        if mark in self._marks:
            raise Incomplete(f"Page {self._pages} leads back to a page before it.")
        self._marks.add(mark)

    def _same(self, before: Any, now: Any) -> Any:
        if now is None or before not in (None, now):
            raise Incomplete(f"Page {self._pages} says other control totals than the first.")
        return now

    def _line(self, line: Any) -> StatementLine:
        """Read one line; nothing in it is guessed."""
        self._count += 1
        file, manifest, wanted = self._mapping.file, self._mapping.manifest, self._operation.lines
        try:
            units = search(wanted.units, line)
            read = StatementLine(
                reference=_needed(search(wanted.reference, line), "reference"),
                step=self._mapping.step(search(wanted.step, line)),
                member=_needed(search(wanted.member, line), "member"),
                units=amount_read(
                    _unsigned(units) if wanted.signed else units,
                    file.amount.form,
                    manifest.points.scale,
                ),
                at_us=time_read(search(wanted.at, line), file.time.form, manifest.hours.zone),
                number=_needed(search(wanted.number, line), "number") if wanted.number else "",
            )
        except ValueError as error:
            raise Incomplete(f"Line {self._count} is not understood: {error}.") from None
        if read.units == 0:
            raise Incomplete(f"Line {self._count} moves nothing.")
        self._sum += read.units
        return read


def _link(answer: HttpAnswer) -> str | None:
    """The next address in a header Link (RFC 8288)."""
    found = _NEXT.search(answer.headers.get("Link", ""))
    return found["address"] if found else None


def _needed(value: Any, what: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise ValueError(f"its {what} is missing")
    return str(value)


def _unsigned(value: Any) -> Any:
    """An amount without its sign; what is no amount stays as it is."""
    if isinstance(value, Figure):
        return Figure(value.removeprefix("-"))
    if isinstance(value, str):
        return value.removeprefix("-")
    return abs(value) if isinstance(value, int) else value


def _whole(value: Any) -> int:
    """A count, also as digits; -1 for anything else."""
    if isinstance(value, str) and value.isdecimal() and value.isascii():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else -1
