"""The document of the mapping file against the code."""

import re
import tomllib
from pathlib import Path
from typing import get_args

import msgspec

from adapters.kit import http_auth
from adapters.kit.protocols.http_mapping import figures, mapping

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "adapters/kit/protocols/http_mapping/README.md").read_text()


def row(first: str) -> str:
    """The row of a table that begins with this cell."""
    return next(line for line in TEXT.splitlines() if line.startswith(f"| {first}"))


def words(text: str) -> set[str]:
    """Everything in back quotes."""
    return set(re.findall(r"`([^`]+)`", text))


def test_every_key_is_in_the_table():
    """Each table's row names exactly the keys that the file may have."""
    for first, record in (
        ("`[amount]`", mapping.Amount),
        ("`[time]`", mapping.Time),
        ("`[refusals]`", mapping.Refusals),
        ("`[callback]`", mapping.Callback),
        ("`[calls.NAME]`", mapping.Operation),
        ("`[calls.statement.lines]`", mapping.Lines),
        ("`[calls.statement.paging]`", mapping.Paging),
    ):
        assert words(row(first).split("|")[2]) == set(record.__struct_fields__)
    tables = set(re.findall(r"^\| `\[+([a-z]+)\]+`", TEXT, re.MULTILINE))
    assert tables | {"calls"} == set(mapping.MappingFile.__struct_fields__)


def test_every_call_and_placeholder_is_named():
    """Each call and each placeholder that a template may have stands in the document."""
    for name in mapping.Calls.__struct_fields__:
        assert f"`{name}`" in TEXT
    calls = words(row("requests about a call"))
    assert calls == {f"{{{name}}}" for name in mapping._CALL} | {"[callback]", "{callback}"}
    for name, given in mapping._GIVEN.items():
        line = next(
            line for line in TEXT.splitlines() if re.match(rf"\| .*`{name}`[,` a-z]* \|", line)
        )
        assert words(line.split("|")[2]) == {f"{{{one}}}" for one in given}
    assert words(row("examples")) == {f"{{{name}}}" for name in mapping._TOLD - mapping._CALL}


def test_every_form_and_kind_is_named():
    """Each way to write an amount or a time, each outcome, and each auth kind stands in the document."""
    for form in get_args(figures.AmountForm):
        written = figures.amount_written(1_234, form, 2)
        assert figures.write_json(written).decode() in words(row(f"`{form}`"))
    for form in (*get_args(figures.TimeForm), *get_args(figures.DayForm)):
        assert f"`{form}`" in TEXT
    for outcome in ("done", "refused", "unknown", "later"):
        assert row(f"`{outcome}`")
    kinds = {kind.__struct_config__.tag for kind in get_args(http_auth.Auth)}
    auth = TEXT[TEXT.index("## How the system knows us") :]
    assert kinds == set(re.findall(r'`(?:kind = )?"([a-z0-9-]+)"`', auth))


def test_example_is_a_call():
    """The example at the top is a call as the file takes it."""
    example = re.search(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    assert example
    call = tomllib.loads(example[1])["calls"]["hold"]
    assert msgspec.convert(call, mapping.Operation).answers[0].outcome == "done"
