"""The access matrix: who may call which route, as `access.csv` beside this file says; nothing else decides it."""

from __future__ import annotations

import csv
from importlib import resources
from typing import TYPE_CHECKING, Final

from exchange.core.person import ROLES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FILE_NAME: Final = "access.csv"
ANYBODY: Final = "anybody"
COLUMNS: Final = (ANYBODY, "merchant-key", "house-key", *ROLES)
"""Kinds of callers: nobody in particular, a merchant's or the house's key, and the roles of people."""


class MatrixError(ValueError):
    """The matrix and the routes do not fit; the message names the row."""


def read_matrix(text: str) -> dict[str, frozenset[str]]:
    """Columns with a `yes`, by route.

    Raises:
        MatrixError: A row stands twice, or a cell holds something else.
    """
    rows: dict[str, frozenset[str]] = {}
    reader = csv.DictReader(text.splitlines(), strict=True)
    if tuple(reader.fieldnames or ()) != ("route", *COLUMNS):
        raise MatrixError(f"the columns are not route, {', '.join(COLUMNS)}")
    for row in reader:
        route = row.pop("route")
        if route in rows or any(cell not in ("yes", "") for cell in row.values()):
            raise MatrixError(f"{route}: twice, or a cell is neither yes nor empty")
        rows[route] = frozenset(column for column, cell in row.items() if cell)
    return rows


def matrix_of(routes: Iterable[str]) -> Mapping[str, frozenset[str]]:
    """The matrix as it is shipped, which must name exactly these routes (`GET /v1/cycles`).

    Raises:
        MatrixError: A route has no row, or a row no route.
    """
    matrix = read_matrix((resources.files("exchange.gateway") / FILE_NAME).read_text("utf-8"))
    if differ := set(routes) ^ set(matrix):
        raise MatrixError(f"{FILE_NAME} and the routes differ: {', '.join(sorted(differ))}")
    return matrix
