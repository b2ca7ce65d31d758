"""The page that shows the contract: complete in itself, and what it is made of is what was taken."""

from __future__ import annotations

import hashlib
import re
from html.parser import HTMLParser
from importlib.resources import files
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from exchange.gateway.docs_handlers import FILES
from tests.gateway.conftest import shared

if TYPE_CHECKING:
    from tests.gateway.conftest import House

FOLDER = files("exchange.gateway").joinpath("docs")


class Loads(HTMLParser):
    """What a page loads: every `src`, and every `href` of a link element."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what an element loads."""
        self.found += [value or "" for name, value in attrs if name in {"src", "href", "action"}]


@shared
async def test_the_page_loads_nothing_from_elsewhere(shared_house: House):
    """Whatever the page loads is served here, with its type, and browsers are told to allow nothing else."""
    page = await shared_house.call("GET", "/docs", caller=None)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert not re.search(r"https?:|\*|unsafe-eval|script-src[^;]*unsafe", policy)
    parser = Loads()
    parser.feed(page.raw.decode())
    loaded = [each for each in parser.found if not each.startswith("data:")]
    assert {urljoin("/docs", each) for each in loaded} == {f"/docs/{name}" for name in FILES}
    for name, media_type in FILES.items():
        answer = await shared_house.call("GET", f"/docs/{name}", caller=None)
        assert (answer.status, answer.headers["Content-Type"]) == (200, media_type)
        assert answer.raw == FOLDER.joinpath(name).read_bytes()
        again = {"If-None-Match": answer.headers["ETag"]}
        kept = await shared_house.call("GET", f"/docs/{name}", caller=None, headers=again)
        assert (kept.status, kept.raw) == (304, b"")
    style = FOLDER.joinpath("swagger-ui.css").read_text("utf-8")
    assert not re.search(r"@import|url\(['\"]?(?!['\"]?data:)", style)
    start = FOLDER.joinpath("start.js").read_text("utf-8")
    assert re.findall(r'url: "([^"]*)"', start) == ["openapi.json"]
    assert "validatorUrl: null" in start
    for other in ("README.md", "..%2Fhandlers.py", "index.html"):
        assert (await shared_house.call("GET", f"/docs/{other}", caller=None)).reason == "not_found"


def test_what_was_taken_is_as_it_was():
    """The files of swagger-ui have the digests that are written beside them, and their licences are there."""
    told = FOLDER.joinpath("README.md").read_text("utf-8")
    written = re.findall(r"\| `([^`]+)` \| `([0-9a-f]{64})` \|", told)
    assert [name for name, _ in written] == ["swagger-ui-bundle.js", "swagger-ui.css"]
    for name, digest in written:
        assert hashlib.sha256(FOLDER.joinpath(name).read_bytes()).hexdigest() == digest
    for name in ("LICENSE", "NOTICE", "swagger-ui-bundle.js.LICENSE.txt"):
        assert FOLDER.joinpath(name).read_bytes()
