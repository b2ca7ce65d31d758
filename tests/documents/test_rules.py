"""settlement/RULES.md holds every rule that is cited, and each rule once."""

import re
from pathlib import Path

import pytest

from tests.documents.text import ROOT

RULES = (ROOT / "settlement/RULES.md").read_text(encoding="utf-8")
DEFINED = re.findall(r"^- \*\*([A-Z]\d+)\.", RULES, re.MULTILINE)
NUMBER = r"[A-Z]\d{1,2}\b"
CITATION = re.compile(rf"\brules?\s+({NUMBER}(?:(?:,\s+|\s+and\s+|\s+to\s+|,\s+and\s+){NUMBER})*)")
SOURCES = [
    path
    for folder in ("exchange", "settlement", "schemas", "adapters", "deploy", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


def cited(text: str) -> set[str]:
    """Rules that a text cites; a range stands for all rules in it."""
    found: set[str] = set()
    for citation in CITATION.findall(re.sub(r"\n\s*#?\s*", " ", text)):
        for letter, first, to, last in re.findall(
            r"([A-Z])(\d+)(?:(\s+to\s+)[A-Z](\d+))?", citation
        ):
            end = int(last) if to else int(first)
            found |= {f"{letter}{number}" for number in range(int(first), end + 1)}
    return found


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("rule B6.", {"B6"}),
        ("settlement/RULES.md, rules B1 to B3 and C1.", {"B1", "B2", "B3", "C1"}),
        ("rules L1 and\n    L2", {"L1", "L2"}),
        ("the rule of RFC 6962", set()),
    ],
)
def test_citations_are_found(text: str, rules: set[str]):
    """A single rule, a range and a list are read as the rules that they stand for."""
    assert cited(text) == rules


def test_rules_are_numbered_once():
    """No number stands for two rules."""
    assert len(DEFINED) == len(set(DEFINED))


def test_every_cited_rule_exists():
    """Whatever rule a docstring or comment cites stands in RULES.md."""
    missing: dict[Path, set[str]] = {}
    for path in SOURCES:
        if gone := cited(path.read_text(encoding="utf-8")) - set(DEFINED):
            missing[path.relative_to(ROOT)] = gone
    assert missing == {}


@pytest.mark.parametrize(
    "document", ["ARCHITECTURE.md", "schemas/FORMAT.md", "settlement/RULES.md"]
)
def test_rules_that_documents_name_exist(document: str):
    """Whatever rule a document names in brackets or by word stands in RULES.md."""
    text = (ROOT / document).read_text(encoding="utf-8")
    in_brackets = {
        name
        for inside in re.findall(r"\(([^()]*)\)", text)
        if re.fullmatch(rf"{NUMBER}(?:(?:, | to | and ){NUMBER})*(?:, rounded \w+)?", inside)
        for name in cited(f"rule {inside}")
    }
    assert (cited(text) | in_brackets) - set(DEFINED) == set()
