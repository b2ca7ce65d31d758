"""Making the files for people and banks of a signed package, offline: nothing but the package is needed.

Every statement is read twice: once for its sums, which must be the signed ones before anything is
written, and once for its lines. The files are written in a hidden folder, which is put in place when
it is whole; making them again of the same package gives the same bytes.

Source: settlement/RULES.md, rules F4 to F10.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from schemas.files.renderings import (
    RENDERINGS,
    RENDERINGS_FORMAT,
    RenderedFile,
    Renderings,
    write_renderings,
)
from settlement.core.instruction import HOUSE_LEG_CODE
from settlement.core.report import CheckFailed
from settlement.render import invoices, payments, vouchers
from settlement.render.rows import RowMaker, Survey, survey
from settlement.service.package_files import length_and_digest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from schemas.files.parties import BankAccount
    from schemas.files.tables import InstructionRow
    from settlement.render.batch import Batch
    from settlement.render.rows import Row
    from settlement.service.package_reading import Package

HOUSE: Final = "_house"
"""Folder of the house; no merchant's code begins so."""
DICTIONARY: Final = "dictionary.csv"
KINDS: Final = ("xlsx", "pdf", "vouchers", "payments")
"""What can be asked for: statements as workbook and as pages, vouchers with invoices, and what banks read."""

_Write = Callable[[Path], None]


class RenderingRefused(Exception):  # noqa: N818 - a state of the input, told to a person
    """The files cannot be made; nothing was written. The message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to make.

    Attributes:
        merchants: Whose files; the house's own are made where this is empty, with those of all merchants.
        kinds: Which of `KINDS`.
        pay_on: When banks are to execute the payments; the day after the cycle's last by default.
        parties_sha256: Digest of the file of parties, if there is one.
    """

    merchants: tuple[str, ...] = ()
    kinds: tuple[str, ...] = KINDS
    pay_on: date | None = None
    parties_sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Files that can be made of a package, all of whose sums were found to be the signed ones.

    Attributes:
        package: The package.
        surveys: Sums of each statement.
        files: How to write each file, by its path.
        left_out: Why something that was wanted cannot be made, in a sentence each.
        parties_sha256: Digest of the file of parties, if there is one.
    """

    package: Package
    surveys: Mapping[str, Survey]
    files: Mapping[str, _Write]
    left_out: tuple[str, ...]
    parties_sha256: str | None


def plan_renderings(package: Package, wanted: Wanted) -> Plan:
    """Read the statements that are wanted, and say which files they give.

    Raises:
        CheckFailed: A statement is not the one that was signed, or does not come to the signed figure.
        RenderingRefused: A merchant has no statement, or is not among the parties; or payment is wanted before the
            cycle's last day.
    """
    batch = package.batch
    unknown = sorted(set(wanted.merchants) - set(package.merchants))
    if unknown:
        raise RenderingRefused(
            f"{', '.join(unknown)} has no statement in the package of {batch.manifest.cycle.id}"
        )
    if wanted.pay_on is not None and wanted.pay_on < batch.last_day:
        raise RenderingRefused(
            f"banks cannot pay on {wanted.pay_on}: the cycle ended on {batch.last_day}"
        )
    merchants = wanted.merchants or tuple(package.merchants)
    if batch.parties is not None:
        absent = [code for code in merchants if batch.parties.find(code) is None]
        if absent:
            raise RenderingRefused(f"the file of parties does not name {', '.join(absent)}")
    surveys = {merchant: _survey(package, merchant) for merchant in merchants}
    files: dict[str, _Write] = {}
    for merchant in merchants:
        files |= _statement_files(package, merchant, surveys[merchant], wanted)
        files |= _merchant_files(batch, merchant, surveys[merchant], wanted)
    if not wanted.merchants:
        files |= _house_files(batch, surveys, wanted)
    files[DICTIONARY] = _constant(_DICTIONARY_FILE.read_bytes)
    return Plan(
        package=package,
        surveys=surveys,
        files=dict(sorted(files.items())),
        left_out=_left_out(batch, wanted),
        parties_sha256=wanted.parties_sha256,
    )


def write_files(plan: Plan, target: Path) -> Renderings:
    """Write the files of a plan, and the list of them, and put the folder in its place.

    Args:
        plan: What to write.
        target: The folder. One that holds files made earlier is replaced.

    Returns:
        The list.

    Raises:
        RenderingRefused: Something else stands there.
    """
    if target.exists() and not (target / RENDERINGS).is_file():
        raise RenderingRefused(f"{target} holds something else; name another folder by --out")
    manifest = plan.package.batch.manifest
    work = target.with_name(f".{target.name}.rendering")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        written = []
        for path, write in plan.files.items():
            (work / path).parent.mkdir(exist_ok=True)
            write(work / path)
            written += [path, *_further_parts(work, path)]
        listed = Renderings(
            format=RENDERINGS_FORMAT,
            cycle_id=manifest.cycle.id,
            sequence=manifest.sequence,
            manifest_sha256=plan.package.batch.manifest_sha256,
            parties_sha256=plan.parties_sha256,
            files=[_facts(work, path) for path in sorted(written)],
        )
        (work / RENDERINGS).write_bytes(write_renderings(listed))
        old = target.with_name(f".{target.name}.replaced")
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
            target.rename(old)
        work.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return listed


_DICTIONARY_FILE: Final = Path(__file__).parent.parent / "render" / DICTIONARY


def _survey(package: Package, merchant: str) -> Survey:
    """Read a statement for its sums, and hold them against what was signed."""
    package.require(f"statements/{merchant}.msgpack")
    found = survey(_rows(package, merchant))
    total, leg = found.total(), package.batch.instructions[merchant]
    paid = total.receivable_fen - total.payable_fen + package.batch.beside_lines(merchant)
    if total.net_cu != package.batch.figure(merchant) or paid != leg.pay_fen:
        raise CheckFailed(
            f"The lines of {merchant} do not come to its signed payment.",
            f"{merchant} 的明细与已签名的收付额不符。",
        )
    return found


def _rows(package: Package, merchant: str) -> Iterator[Row]:
    """Stream the rows of a statement."""
    batch = package.batch
    invoice = None if batch.parties is None else batch.parties.house.invoice
    maker = RowMaker(
        carry_cu=batch.first_carry(merchant),
        party=batch.party(merchant),
        tax_code="" if invoice is None else invoice.tax_code,
    )
    return maker.rows(package.lines(merchant))


def _statement_files(
    package: Package, merchant: str, sums: Survey, wanted: Wanted
) -> dict[str, _Write]:
    """The statement of a merchant as workbook and as pages."""
    # These libraries take a second to load, and other commands do without them.
    batch = package.batch

    def workbook(path: Path) -> None:
        from settlement.render.workbook import write_workbook

        write_workbook(
            path, batch=batch, merchant=merchant, survey=sums, rows=_rows(package, merchant)
        )

    def pages(path: Path) -> None:
        from settlement.render.pages import write_pages

        write_pages(
            path, batch=batch, merchant=merchant, survey=sums, rows=_rows(package, merchant)
        )

    return {
        f"{merchant}/statement.{kind}": write
        for kind, write in (("xlsx", workbook), ("pdf", pages))
        if kind in wanted.kinds
    }


def _merchant_files(batch: Batch, merchant: str, sums: Survey, wanted: Wanted) -> dict[str, _Write]:
    """Vouchers, invoices, and what a merchant's bank reads."""
    files: dict[str, _Write] = {}
    if "vouchers" in wanted.kinds:
        entries = vouchers.merchant_entries(batch, merchant, sums)
        files |= _voucher_files(batch, merchant, merchant, entries)
        rows = invoices.all_invoices(batch, {merchant: sums}).get(merchant)
        if rows:
            files[f"{merchant}/invoices.csv"] = _constant(lambda: invoices.invoices_csv(rows))
    if "payments" in wanted.kinds:
        files |= _notice_files(batch, merchant)
        if batch.parties is not None:
            party = batch.parties.find(merchant)
            assert party is not None
            files |= _order_files(
                batch,
                f"{merchant}/",
                payments.payments_in(batch, batch.parties, merchant),
                wanted,
                message_id=f"{batch.payment_id(merchant)}-IN",
                debtor=party.account,
                tax_no=party.credit_code,
            )
    return files


def _house_files(batch: Batch, surveys: Mapping[str, Survey], wanted: Wanted) -> dict[str, _Write]:
    """Vouchers and invoices of the house, and what its bank reads."""
    files: dict[str, _Write] = {}
    if "vouchers" in wanted.kinds:
        files |= _voucher_files(batch, HOUSE, HOUSE_LEG_CODE, vouchers.house_entries(batch))
        rows = [row for each in invoices.all_invoices(batch, surveys).values() for row in each]
        if rows:
            files[f"{HOUSE}/invoices.csv"] = _constant(lambda: invoices.invoices_csv(rows))
    if "payments" in wanted.kinds and batch.parties is not None:
        house = batch.parties.house
        files |= _order_files(
            batch,
            f"{HOUSE}/",
            payments.payments_out(batch, batch.parties),
            wanted,
            message_id=f"{batch.batch_id}-OUT",
            debtor=house.account,
            tax_no=house.credit_code,
        )
        # The house's own leg is paid in where reversals took back more than the cycle's fees.
        files |= _order_files(
            batch,
            f"{HOUSE}/own-",
            payments.payments_in(batch, batch.parties, HOUSE_LEG_CODE),
            wanted,
            message_id=f"{batch.payment_id(HOUSE_LEG_CODE)}-IN",
            debtor=house.own_account,
            tax_no=house.credit_code,
        )
    return files


def _notice_files(batch: Batch, merchant: str) -> dict[str, _Write]:
    """The notices of what a merchant pays or is paid; none of what is nothing."""

    def notice(leg: InstructionRow) -> bytes:
        from settlement.render.iso20022 import camt_054

        name = batch.payment_id(merchant, leg.counterparty)
        return camt_054(batch, merchant=merchant, end_to_end_id=name, fen=leg.pay_fen)

    def name(leg: InstructionRow) -> str:
        to = leg.counterparty.replace(":", "-")
        return f"{merchant}/camt.054{f'-{to}' if to else ''}.xml"

    return {
        name(leg): _constant(partial(notice, leg)) for leg in batch.legs_of(merchant) if leg.pay_fen
    }


def _order_files(
    batch: Batch,
    prefix: str,
    made: list[payments.Payment],
    wanted: Wanted,
    *,
    message_id: str,
    debtor: BankAccount,
    tax_no: str,
) -> dict[str, _Write]:
    """The order of one payer, as a message to its bank and as its bank's form; none where nothing is paid."""
    if not made:
        return {}
    execute_on = wanted.pay_on or batch.last_day + timedelta(days=1)

    def order() -> bytes:
        from settlement.render.iso20022 import pain_001

        return pain_001(
            batch,
            message_id=message_id,
            debtor=debtor,
            debtor_tax_no=tax_no,
            payments=made,
            execute_on=execute_on,
        )

    def book(path: Path) -> None:
        from settlement.render.bank_book import write_bank_book

        write_bank_book(path, batch, made)

    files = {
        f"{prefix}pain.001.xml": _constant(order),
        f"{prefix}bank.csv": _constant(lambda: payments.bank_form(batch, made)),
    }
    return files | ({f"{prefix}bank.xlsx": book} if "xlsx" in wanted.kinds else {})


def _voucher_files(
    batch: Batch, folder: str, party: str, entries: list[vouchers.Entry]
) -> dict[str, _Write]:
    """One voucher in both its forms; none where nothing moved."""
    if not entries:
        return {}
    return {
        f"{folder}/vouchers.csv": _constant(lambda: vouchers.vouchers_csv(batch, entries)),
        f"{folder}/vouchers.beancount": _constant(
            lambda: vouchers.beancount(batch, party, entries)
        ),
    }


def _left_out(batch: Batch, wanted: Wanted) -> tuple[str, ...]:
    """Say what cannot be made without names and accounts."""
    if batch.parties is not None:
        return ()
    said = []
    if "payments" in wanted.kinds:
        said.append("Without --parties there are no bank accounts: no pain.001 and no bank form.")
    if "vouchers" in wanted.kinds:
        said.append("Without --parties there are no tax numbers: no invoices.")
    return tuple(said)


def _constant(make: Callable[[], bytes]) -> _Write:
    """A small file that is made at once."""

    def write(path: Path) -> None:
        path.write_bytes(make())

    return write


def _further_parts(work: Path, path: str) -> list[str]:
    """Parts that a file went on in: `statement-2.pdf` after `statement.pdf`."""
    first = work / path
    found = sorted(first.parent.glob(f"{first.stem}-[0-9]*{first.suffix}"))
    return [str(one.relative_to(work)) for one in found]


def _facts(work: Path, path: str) -> RenderedFile:
    """Length and digest of a file, which is made durable."""
    with (work / path).open("rb") as file:
        os.fsync(file.fileno())
    length, digest = length_and_digest(work / path)
    return RenderedFile(path=path, bytes=length, sha256=digest)
