"""The demo's input, and what must come out of it; see ATTRIBUTION.md for where the purchases come from."""

from __future__ import annotations

import lzma
from importlib.resources import files

PURCHASES = "purchases.csv.xz"
PROGRAMMES = "programmes.toml"
POSITIONS = "positions.csv"
PARTIES = "parties.toml"


def purchases_text() -> str:
    """The 20,000 lines and their header, as one CSV text."""
    return lzma.decompress((files(__name__) / PURCHASES).read_bytes()).decode("ascii")


def programmes_text() -> str:
    """The twenty-one programmes, as TOML."""
    return (files(__name__) / PROGRAMMES).read_text("utf-8")


def positions_text() -> str:
    """What the four cycles must come to: `cycle,party,net_cu`, sorted."""
    return (files(__name__) / POSITIONS).read_text("utf-8")


def parties_bytes() -> bytes:
    """Who the house and the programmes are for banks, tax offices and ledgers, as TOML."""
    return (files(__name__) / PARTIES).read_bytes()
