"""ARCHITECTURE.md says what the code does, wherever a machine can compare the two."""

import re
import tomllib
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from exchange.core import order
from exchange.gateway.gate import Who
from exchange.gateway.matrix import matrix_of
from exchange.gateway.routes import ROUTES
from schemas.values.reason import REASON_BY_NUMBER, Reason
from settlement.core import dispute, hold
from settlement.core.books import Books
from settlement.core.command import End, Entry, Join, Order, Pin
from settlement.core.event import Kind
from settlement.service.clearing import Writer
from tests.documents.text import ROOT, plain, table

DOCUMENT = "ARCHITECTURE.md"
TEXT = (ROOT / DOCUMENT).read_text(encoding="utf-8")
SCHEMA = (ROOT / "deploy/database/schema.sql").read_text(encoding="utf-8")
DOCUMENTS = [
    path
    for folder in ("", "schemas", "settlement", "exchange", "adapters", "tests", "deploy")
    for path in sorted((ROOT / folder).glob("*.md"))
]
SENDER, OTHER = 7, 8


def test_event_kinds_are_those_of_the_journal():
    """The table of events names every kind with its permanent number."""
    told = [(int(number), kind) for number, kind, _ in table(DOCUMENT, "Events")]
    assert told == [(kind.value, kind.name.lower()) for kind in Kind]


def test_reasons_are_those_of_the_catalogue():
    """The table of reasons names every code with its permanent number and whether a new key may help."""
    told = [
        (int(number), plain(code), retryable)
        for number, code, retryable, _ in table(DOCUMENT, "Reasons")
    ]
    assert told == [
        (reason.number, reason.code, "yes" if reason.retryable else "no") for reason in Reason
    ]


def test_routes_are_those_of_the_route_table():
    """The table of routes names every route with who may call it; some of merchants' are closed to the house."""
    told = [(plain(route), who) for route, who, _ in table(DOCUMENT, "Routes")]
    names = [f"{route.method} {route.path}" for route in ROUTES]
    matrix = matrix_of(names)
    house = {"house-key", "operator", "treasurer", "auditor", "support"}
    assert told == [
        (
            name,
            "a merchant"
            if route.who is Who.MERCHANT and not matrix[name] & house
            else route.who.value,
        )
        for name, route in zip(names, ROUTES, strict=True)
    ]


def test_rights_are_those_of_the_schema():
    """The table of rights says what the program's role may do, as the migrations grant it."""
    granted: dict[str, list[str]] = {}
    for rights, name in re.findall(r"GRANT ([^;]+?) ON TABLE (\S+) TO tongdui_app;", SCHEMA):
        granted.setdefault(name.replace('"', ""), []).extend(re.split(r",\s*", rights))
    told = {
        plain(name): rights.split(", ")
        for name, _, rights in table(DOCUMENT, "Roles in the database")
    }
    assert told == granted


def test_states_of_a_cycle_are_those_of_the_schema():
    """The state table of cycles knows the states that the database allows."""
    found = re.search(r"CONSTRAINT cycle_state_check CHECK \(\(state = ANY \((.*?)\)\)\)", SCHEMA)
    assert found is not None
    told = {to for _, _, to in table(DOCUMENT, "Life of a cycle")}
    assert told == set(re.findall(r"'(\w+)'::text", found[1]))


async def no_connection() -> Any:
    """Nothing here reaches a database."""
    raise AssertionError("a connection was asked for")


def accepted_order(books: Books) -> Entry:
    """Open two accounts and a cycle, and accept an order of SENDER."""
    for number in (SENDER, OTHER):
        command = Join(
            caller=0, key=uuid.uuid4().bytes, body=bytes(16), merchant_no=number, cap_cu=10**6
        )
        books.decide(command)
    books.cycle_no = 1
    return books.decide(
        Order(
            caller=SENDER, key=uuid.uuid4().bytes, body=bytes(16), issuer=SENDER, acceptor=OTHER,
            member_no=1, units=10, debit_cu=100, value_cu=100, fee_cu=0, rate_no=1, hold_us=1_000,
        )
    )[0]  # fmt: skip


def answer_in_words(entry: Entry, stored: Entry | None) -> str:
    """What the table of ends calls an answer."""
    if entry.kind == Kind.REFUSED:
        return f"`{REASON_BY_NUMBER[entry.reason].code}`"
    if entry is stored:
        return "the same answer"
    return {Kind.CLEARED: "clears", Kind.VOIDED: "voids", Kind.PINNED: "pins"}[Kind(entry.kind)]


@pytest.mark.parametrize("row", table(DOCUMENT, "States of an order"))
def test_state_table_of_orders_has_known_states(row: list[str]):
    """The state table of orders knows the kinds that an order's events have."""
    start, _, end = row
    states = {"accepted", "refused", "cleared", "voided", "expired"}
    assert end in states
    assert start == "–" or start in states


WISHES: dict[str, Callable[[dict[str, Any]], End | Pin]] = {
    "clear": lambda same: End(**same, kind=Kind.CLEARED),
    "void": lambda same: End(**same, kind=Kind.VOIDED),
    "void, proven": lambda same: End(**same, kind=Kind.VOIDED, proven=True),
    "pin": lambda same: Pin(**same),
}
"""What may be wished of an order, in the order of the table's columns."""


def ends() -> list[list[str]]:
    """Rows of the table that says what a wish to end or to pin an order is answered."""
    after = TEXT[TEXT.index("| The order is |") :]
    lines = after[: after.index("\n\n")].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("row", ends(), ids=lambda row: row[0])
@pytest.mark.parametrize(("column", "wish"), [*enumerate(WISHES, 1)], ids=str)
def test_wishes_are_answered_as_the_table_says(row: list[str], column: int, wish: str):
    """Clearing, voiding or pinning an order in any state is answered as the table says (rules C7 and I7)."""
    state = row[0]
    writer = Writer(connect=no_connection, now_us=lambda: 0)
    writer._books = books = Books(part=1)
    entry = accepted_order(books)
    stored: Entry | None = None
    caller = SENDER
    orders: dict[int, tuple[int, list[Entry]]] = {}
    if state.startswith("unknown"):
        caller = OTHER
    elif state == "accepted and pinned":
        stored = hold.pin(books, books.holds[entry.order_seq])
    elif state != "accepted":
        books.holds.clear()
        stored = Entry(
            2, entry.order_seq, Kind[state.upper()], 1, 0, 0, 1, SENDER, OTHER, 10, 100, 100, 0, 0, 0, 1
        )  # fmt: skip
        orders = {entry.order_seq: (SENDER, [entry, stored])}
    same: dict[str, Any] = {
        "caller": caller, "key": bytes(16), "body": bytes(16), "order_seq": entry.order_seq
    }  # fmt: skip
    command = WISHES[wish](same)
    assert answer_in_words(writer._end(command, orders), stored) == row[column]


def test_every_dependency_has_its_reason():
    """The decisions name each dependency of pyproject.toml, and nothing that is none."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [
        *project["project"]["dependencies"],
        *(each for group in project["project"]["optional-dependencies"].values() for each in group),
        *project["dependency-groups"]["dev"],
    ]
    names = {re.split(r"[<>=;\[ ]", each, maxsplit=1)[0] for each in wanted}
    assert {plain(name) for name, _ in table(DOCUMENT, "Dependencies")} == names


def test_invariants_are_held_where_the_table_says():
    """Each function that is said to hold an invariant exists, and so does each constraint and index."""
    rows = table(DOCUMENT, "What must always hold")
    for _, core, database in rows:
        for cell in (core, database):
            for path, names in re.findall(r"`([a-z_/]+\.py)`((?: (?:and )?`\w+`)*)", cell):
                code = (ROOT / path).read_text(encoding="utf-8")
                for name in re.findall(r"`(\w+)`", names):
                    assert re.search(rf"def {name}\b", code), f"{path} has no {name}"
        for name in re.findall(r"(?:constraint|index|view) `(\w+)`", database):
            assert re.search(rf"\b{name}\b", SCHEMA), f"schema.sql has no {name}"


def test_processes_are_there():
    """Each process runs a module that exists."""
    for _, module, *_ in table(DOCUMENT, "Processes"):
        assert (ROOT / plain(module)).is_file(), module


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_in_documents_exist(document):
    """A file or folder of the project that a document names is there."""
    text = document.read_text(encoding="utf-8")
    tops = "exchange|settlement|schemas|adapters|deploy|tests"
    for path in re.findall(rf"`((?:{tops})/[\w./-]*)`", text):
        assert (ROOT / path).exists(), path


def test_glossary_is_sorted_and_says_each_word_once():
    """The glossary is in order, so that a word is found and stands there once."""
    words = [word for word, _ in table(DOCUMENT, "Glossary")]
    assert words == sorted(set(words), key=str.lower)


def test_the_life_of_an_order_between_systems_is_the_table():
    """The diagram, the states and the time-outs are those that the program follows."""
    assert f"```mermaid\n{order.diagram()}```" in TEXT
    states = table(DOCUMENT, "Orders between merchants' own systems")
    assert states == [[state.name, order.MEANING[state]] for state in order.State]
    assert f"```mermaid\n{dispute.diagram()}```" in TEXT
    time_outs = table(DOCUMENT, "Time-outs of such an order")
    assert time_outs == [[name, does] for name, _, does in order.TIME_OUTS]
