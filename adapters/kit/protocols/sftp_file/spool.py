"""What was asked of a merchant by file, kept so that a crash at any point loses and doubles nothing.

One SQLite file in the spool's folder, in which every commit reaches the disk before anybody is told.
A call goes through these states, and never back:

    gathered -> in a request file -> that file sent -> answered -> answer told

A request file gets its name, its number and its bytes in the transaction that takes its calls in. So
whatever happens afterwards, it is only ever sent under that name with those bytes, however often.

The functions block while the disk is written; the adapter calls them from a thread.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Final

from adapters.kit.contract import Call, Outcome, Receipt, Step
from schemas.values.reason import REASON_BY_NUMBER, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

_FILE: Final = "spool.sqlite3"
_BUSY_SECONDS: Final = 30.0
_FORMAT: Final = 1

_TABLES: Final = """
CREATE TABLE request_file (
    name    TEXT PRIMARY KEY,
    day     TEXT NOT NULL,
    number  INTEGER NOT NULL,
    content BLOB NOT NULL,
    made_us INTEGER NOT NULL,
    sent    INTEGER NOT NULL DEFAULT 0,
    UNIQUE (day, number)
) STRICT;
CREATE TABLE call (
    reference  TEXT PRIMARY KEY,
    step       TEXT NOT NULL,
    member     TEXT NOT NULL,
    units      INTEGER NOT NULL,
    of         TEXT NOT NULL,
    of_receipt TEXT NOT NULL,
    at_us      INTEGER NOT NULL,
    stored_us  INTEGER NOT NULL,
    file       TEXT REFERENCES request_file (name),
    absent     INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX call_gathered ON call (stored_us) WHERE file IS NULL;
CREATE TABLE answer (
    reference TEXT PRIMARY KEY REFERENCES call (reference),
    outcome   TEXT NOT NULL,
    reason    INTEGER,
    number    TEXT NOT NULL,
    units     INTEGER,
    file      TEXT NOT NULL,
    told      INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX answer_untold ON answer (file) WHERE told = 0;
CREATE TABLE refused_file (
    digest TEXT PRIMARY KEY,
    name   TEXT NOT NULL,
    why    TEXT NOT NULL
) STRICT;
CREATE TABLE birth (at_us INTEGER NOT NULL) STRICT;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What the spool knows of a call.

    Attributes:
        receipt: The merchant's answer, if it has come.
        day: Day of the request file that carries it; None while it is gathered.
        sent: Whether that file was sent.
        differs: The reference stands here for something else.
    """

    receipt: Receipt | None = None
    day: date | None = None
    sent: bool = False
    differs: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFile:
    """A file that is to be sent under exactly this name, with exactly these bytes."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What became of the lines of a response file.

    Attributes:
        new: References that were answered by it.
        strange: References that nobody asked about.
        contradicted: References whose first answer was another one; the first one stands.
    """

    new: tuple[str, ...]
    strange: tuple[str, ...]
    contradicted: tuple[str, ...]


class Spool:
    """The spool of one merchant, shared by all processes that speak to it."""

    def __init__(self, folder: Path, *, now_us: Callable[[], int]) -> None:
        """Open the spool, or make it.

        Raises:
            OSError: The folder cannot be made.
            sqlite3.Error: It is not a spool, or the disk refuses.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._now_us = now_us
        self._db = sqlite3.connect(
            folder / _FILE, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA foreign_keys = ON")
        with self._writing():
            (found,) = self._db.execute("PRAGMA user_version").fetchone()
            if found == 0:
                for statement in _TABLES.split(";")[:-1]:
                    self._db.execute(statement)
                self._db.execute("INSERT INTO birth (at_us) VALUES (?)", (now_us(),))
                self._db.execute(f"PRAGMA user_version = {_FORMAT}")
            elif found != _FORMAT:
                raise sqlite3.DatabaseError(f"the spool has format {found}, not {_FORMAT}")
        (self.born_us,) = self._db.execute("SELECT at_us FROM birth").fetchone()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # --- calls ---

    def keep(self, calls: Sequence[Call]) -> list[Kept]:
        """Keep calls for the next request file, each once; they are on the disk when this returns.

        A call that is here already is not kept again, unless the earlier sending is proven to have
        had no effect and the merchant to know nothing of it: then it goes out once more.
        """
        with self._writing():
            return [self._keep(call) for call in calls]

    def find(self, call: Call) -> Kept | None:
        """What the spool knows of a call; None if it was never kept."""
        row = self._db.execute(
            """
            SELECT call.step, call.member, call.units, call.of, file.day, file.sent,
                   answer.outcome, answer.reason, answer.number, answer.units
              FROM call
              LEFT JOIN request_file AS file ON file.name = call.file
              LEFT JOIN answer ON answer.reference = call.reference
             WHERE call.reference = ?
            """,
            (call.reference,),
        ).fetchone()
        if row is None:
            return None
        step, member, units, of, day, sent, outcome, reason, number, moved = row
        return Kept(
            receipt=None if outcome is None else _receipt(outcome, reason, number, moved),
            day=date.fromisoformat(day) if day else None,
            sent=bool(sent),
            differs=(step, member, units, of)
            != (call.step.value, call.member, call.units, call.of),
        )

    def prove_absent(self, reference: str) -> None:
        """Note that a call that was sent never took effect; should it be made again, it goes out again."""
        with self._writing():
            self._mark_absent(reference)

    def _mark_absent(self, reference: str) -> None:
        self._db.execute("UPDATE call SET absent = 1 WHERE reference = ?", (reference,))

    def _keep(self, call: Call) -> Kept:
        self._db.execute(
            """
            DELETE FROM answer
             WHERE reference = ?1
               AND EXISTS (SELECT 1 FROM call WHERE reference = ?1 AND absent = 1)
            """,
            (call.reference,),
        )
        self._db.execute(
            """
            INSERT INTO call (reference, step, member, units, of, of_receipt, at_us, stored_us)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (reference) DO UPDATE SET file = NULL, absent = 0 WHERE absent = 1
            """,
            (
                call.reference,
                call.step.value,
                call.member,
                call.units,
                call.of,
                call.of_receipt,
                call.at_us,
                self._now_us(),
            ),
        )
        kept = self.find(call)
        if kept is None:
            raise AssertionError(f"{call.reference} was kept and is not there")
        return kept

    # --- request files ---

    def gathered(self) -> tuple[int, int]:
        """How many calls wait for a request file, and since when the first does (microseconds UTC)."""
        count, since_us = self._db.execute(
            "SELECT count(*), coalesce(min(stored_us), 0) FROM call WHERE file IS NULL"
        ).fetchone()
        return count, since_us

    def make_file(
        self, day: date, calls_max: int, write: Callable[[int, Sequence[Call]], RequestFile]
    ) -> RequestFile | None:
        """Put the calls that wait into a request file, the oldest first.

        Args:
            day: The merchant's day; files are numbered in each.
            calls_max: Most calls of one file.
            write: Makes the file from its number and its calls.

        Returns:
            The file, which is on the disk; None if no call waits.
        """
        with self._writing():
            rows = self._db.execute(
                """
                SELECT reference, step, member, units, of, of_receipt, at_us
                  FROM call
                 WHERE file IS NULL
                 ORDER BY stored_us, rowid
                 LIMIT ?
                """,
                (calls_max,),
            ).fetchall()
            if not rows:
                return None
            (number,) = self._db.execute(
                "SELECT coalesce(max(number), 0) + 1 FROM request_file WHERE day = ?",
                (day.isoformat(),),
            ).fetchone()
            file = write(number, [_call(*row) for row in rows])
            self._db.execute(
                """
                INSERT INTO request_file (name, day, number, content, made_us)
                VALUES (?, ?, ?, ?, ?)
                """,
                (file.name, day.isoformat(), number, file.content, self._now_us()),
            )
            self._db.executemany(
                "UPDATE call SET file = ? WHERE reference = ?",
                [(file.name, row[0]) for row in rows],
            )
            return file

    def unsent(self) -> list[RequestFile]:
        """Files that were made and may not have been sent, in their order."""
        rows = self._db.execute(
            "SELECT name, content FROM request_file WHERE sent = 0 ORDER BY day, number"
        ).fetchall()
        return [RequestFile(name=name, content=content) for name, content in rows]

    def mark_sent(self, name: str) -> None:
        """Note that a file lies at the merchant's under its name."""
        with self._writing():
            self._db.execute("UPDATE request_file SET sent = 1 WHERE name = ?", (name,))

    # --- answers ---

    def take(self, file: str, answers: Sequence[tuple[str, Receipt]]) -> Found:
        """Keep the answers of one file, all or none of them; the first answer to a call stands."""
        new, strange, contradicted = [], [], []
        with self._writing():
            for reference, receipt in answers:
                known = self._db.execute(
                    "SELECT 1 FROM call WHERE reference = ?", (reference,)
                ).fetchone()
                first = self._db.execute(
                    "SELECT outcome, reason, number, units FROM answer WHERE reference = ?",
                    (reference,),
                ).fetchone()
                if known is None:
                    strange.append(reference)
                elif first is None:
                    new.append(reference)
                    self._insert_answer(file, reference, receipt)
                    if receipt.reason is Reason.CALL_NOT_FOUND:
                        self._mark_absent(reference)
                elif _receipt(*first) != receipt:
                    contradicted.append(reference)
        return Found(new=tuple(new), strange=tuple(strange), contradicted=tuple(contradicted))

    def untold(self) -> list[tuple[str, Receipt]]:
        """Answers that nobody was told yet."""
        rows = self._db.execute(
            "SELECT reference, outcome, reason, number, units FROM answer WHERE told = 0"
        ).fetchall()
        return [(reference, _receipt(*rest)) for reference, *rest in rows]

    def mark_told(self, references: Sequence[str]) -> None:
        """Note that answers are durable with whoever waited for them."""
        with self._writing():
            self._db.executemany(
                "UPDATE answer SET told = 1 WHERE reference = ?",
                [(reference,) for reference in references],
            )

    def _insert_answer(self, file: str, reference: str, receipt: Receipt) -> None:
        reason = None if receipt.reason is None else receipt.reason.number
        self._db.execute(
            """
            INSERT INTO answer (reference, outcome, reason, number, units, file)
            VALUES (?, ?, ?, ?, ?, ?)
            """,
            (reference, receipt.outcome.value, reason, receipt.number, receipt.units, file),
        )

    # --- files that were refused ---

    def refuse(self, name: str, digest: str, why: str) -> bool:
        """Note that a file was refused; False if exactly this one had been already."""
        with self._writing():
            done = self._db.execute(
                """
                INSERT INTO refused_file (digest, name, why) VALUES (?, ?, ?)
                ON CONFLICT (digest) DO NOTHING
                """,
                (digest, name, why),
            )
            return done.rowcount == 1

    # --- housekeeping ---

    def purge(self, before_us: int) -> int:
        """Forget what was answered and told, of request files made before an instant; how many calls."""
        with self._writing():
            done = self._db.execute(
                """
                SELECT answer.reference
                  FROM answer
                  JOIN call ON call.reference = answer.reference
                  JOIN request_file AS file ON file.name = call.file
                 WHERE answer.told = 1 AND file.made_us < ?
                """,
                (before_us,),
            ).fetchall()
            self._db.executemany("DELETE FROM answer WHERE reference = ?", done)
            self._db.executemany("DELETE FROM call WHERE reference = ?", done)
            # The last number of a day must not be given twice, so of a file more than its bytes stay.
            self._db.execute(
                """
                UPDATE request_file SET content = x''
                 WHERE sent = 1 AND made_us < ?
                   AND NOT EXISTS (SELECT 1 FROM call WHERE call.file = request_file.name)
                """,
                (before_us,),
            )
            return len(done)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction, on the disk when it ends."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def _call(
    reference: str, step: str, member: str, units: int, of: str, of_receipt: str, at_us: int
) -> Call:
    return Call(
        reference=reference,
        step=Step(step),
        member=member,
        units=units,
        of=of,
        of_receipt=of_receipt,
        at_us=at_us,
    )


def _receipt(outcome: str, reason: int | None, number: str, units: int | None) -> Receipt:
    return Receipt(
        outcome=Outcome(outcome),
        reason=None if reason is None else REASON_BY_NUMBER[reason],
        number=number,
        units=units,
    )
