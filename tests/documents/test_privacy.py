"""The table of personal data names every table of the schema, each with a grade that is explained."""

import re

from exchange.core.retention import RETENTION
from tests.documents.text import ROOT, plain, table

DOCUMENT = "exchange/PRIVACY.md"


def test_every_table_has_its_grade():
    """A new table needs a line that says what is personal in it, and when it goes."""
    schema = (ROOT / "deploy/database/schema.sql").read_text(encoding="utf-8")
    stored = {
        name.replace('"', "") for name in re.findall(r"^CREATE TABLE (\S+)", schema, re.MULTILINE)
    }
    text = (ROOT / DOCUMENT).read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z_.]+)` \| ([1-4]) \| (.+) \| (.+) \|$", text, re.MULTILINE)
    assert {name for name, *_ in rows} == stored
    assert {plain(grade).split()[0] for grade, _ in table(DOCUMENT, "Personal data")} == set("1234")
    for name, grade, personal, _ in rows:
        assert (int(grade) > 2) == (personal != "–"), name


def test_what_is_kept_for_a_time_is_told():
    """The document's periods are those that the retention run follows, and the table of data says where it comes by."""
    told = [[plain(cell) for cell in row] for row in table(DOCUMENT, "Retention")]
    assert told == [
        [each.name, each.table, f"{each.days} days", each.since, each.reason] for each in RETENTION
    ]
    text = (ROOT / DOCUMENT).read_text(encoding="utf-8")
    by_run = set(re.findall(r"^\| `([a-z_.]+)` .+the retention run \|$", text, re.MULTILINE))
    assert by_run == {each.table for each in RETENTION}
