"""`tongdui adapter`: start a merchant's adapter, try it against the contract, certify it, simulate it."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from exchange.cli.context import Unusable, keyring_of, this_home
from exchange.cli.output import out, print_json, progress_bar

if TYPE_CHECKING:
    from adapters.kit.conformance.examination import Finding
    from adapters.kit.folder import Folder

VERDICTS = {
    "passed": "[green]passed 通过[/]",
    "failed": "[red]failed 未通过[/]",
    "not applicable": "[dim]n/a 不适用[/]",
    "not tried": "[yellow]not tried 未测试[/]",
}


@click.group()
def adapter() -> None:
    """Start, try, certify and simulate the adapter of a merchant's own system.

    NAME is a merchant's code, or the path of a folder anywhere (with a `/` in it).
    """


@adapter.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_adapters(*, as_json: bool) -> None:
    """Show every adapter that can be found here, with what its system can do."""
    from adapters.kit import registry
    from adapters.kit.folder import digest_of

    folders = [registry.find(name) for name in registry.names()]
    if as_json:
        print_json(
            [
                {
                    "code": folder.code,
                    "protocol": folder.manifest.merchant.protocol,
                    "spend": folder.manifest.spend.way,
                    "credit": folder.manifest.credit.way,
                    "answers": folder.manifest.answers.way,
                    "digest": digest_of(folder.path),
                    "path": str(folder.path),
                }
                for folder in folders
            ]
        )
        return
    from rich.table import Table

    table = Table("code 商户", "protocol 协议", "spend 扣减", "credit 入账", "answers 应答")
    for folder in folders:
        manifest = folder.manifest
        table.add_row(
            folder.code,
            manifest.merchant.protocol,
            manifest.spend.way,
            manifest.credit.way,
            manifest.answers.way,
        )
    out().print(table)


@adapter.command("new")
@click.argument("name")
@click.option("--protocol", required=True, help="How its system speaks, for example http-mapping.")
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Where the folder is made; the shipped adapters' place if not given.",
)
def new(*, name: str, protocol: str, into: Path | None) -> None:
    """Write the folder of a new adapter, which passes every clause on its own simulator."""
    from adapters.kit import registry
    from adapters.kit.conformance.scaffold import write_folder
    from exchange.service.hosted import PROTOCOL

    if name == PROTOCOL:
        raise Unusable(
            f"{PROTOCOL} stands for the programmes that the house keeps; take another name"
        )
    folder = write_folder(name, protocol=protocol, into=into or registry.MERCHANTS)
    print(f"wrote {folder}")
    called = name if into is None else folder if "/" in str(folder) else f"./{folder}"
    print(f"next: tongdui adapter check {called}")


@adapter.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "every", is_flag=True, help="Try every adapter that can be found here.")
@click.option("--against", metavar="URL", help="Try the system at this address, not the simulator.")
@click.option("--only", multiple=True, metavar="CLAUSE", help="Try this clause alone; repeatable.")
@click.option(
    "--certificate",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the signed certificate of an adapter that passes here, and its signature beside it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(
    *,
    names: tuple[str, ...],
    every: bool,
    against: str | None,
    only: tuple[str, ...],
    certificate: Path | None,
    as_json: bool,
) -> int:
    """Try every clause of the contract, and say how to mend what failed; status 1 if something did.

    `hosted` stands for the programmes that the house keeps: they are tried on a private server.
    """
    from adapters.kit import registry
    from adapters.kit.conformance.examination import all_clauses, examine
    from exchange.cli.hosted_check import check_hosted
    from exchange.service.certification import certify, signature_path, write_certificate
    from exchange.service.hosted import PROTOCOL

    wanted = [*registry.names(), PROTOCOL] if every else list(names)
    if not wanted:
        raise click.UsageError("name an adapter, or say --all")
    if unknown := sorted(set(only) - set(all_clauses())):
        raise Unusable(f"no clause is called {unknown[0]}; there are {', '.join(all_clauses())}")
    if against and PROTOCOL in wanted:
        raise click.UsageError("hosted programmes are here, at no address")
    if certificate and PROTOCOL in wanted:
        raise click.UsageError("a hosted programme has no folder, and needs no certificate")
    if certificate and (len(wanted) > 1 or only):
        raise click.UsageError("a certificate is of one adapter and of all clauses")
    settings: dict[str, object] | None = None if against is None else {"base_url": against}
    failed = False
    reports = []
    for name in wanted:
        folder = None if name == PROTOCOL else folder_of(name)
        with progress_bar(
            name, total=len(only) or len(all_clauses()), shown=not as_json
        ) as advance:
            if folder is None:
                findings = check_hosted(only=only, done=lambda: advance(1))
            else:
                findings = asyncio.run(
                    examine(folder, settings=settings, only=only, done=lambda: advance(1))
                )
        failed = failed or any(finding.verdict == "failed" for finding in findings)
        reports.append((folder, findings))
        if not as_json:
            _show(folder.code if folder else name, findings)
    if as_json:
        print_json([_as_json(folder, findings) for folder, findings in reports])
    if certificate and not failed:
        home = this_home()
        home.make()
        [(certified, findings)] = reports
        assert certified is not None
        made = certify(
            certified,
            findings,
            keyring_of(home, make=True),
            at=datetime.now(UTC),
            against=against or "simulator",
        )
        if made:
            write_certificate(certificate, *made)
            print(f"signed {certificate} and {signature_path(certificate)}", file=sys.stderr)
    return int(failed)


@adapter.command("verify-certificate")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--adapter", "name", help="The adapter that it must stand for; its own name's if not given."
)
@click.option(
    "--key",
    "key_files",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A trusted public key (PEM); the keys of this installation if not given.",
)
def verify_certificate(*, file: Path, name: str | None, key_files: tuple[Path, ...]) -> int:
    """Check signature, time, clauses, and that the adapter's folder is the one that was tried."""
    from adapters.kit.conformance.certificate import parse_certificate
    from exchange.cli.package import trusted_keys
    from exchange.service.certification import check_certificate, signature_path
    from schemas.values.reason import Refusal

    trusted = trusted_keys(key_files)
    data = file.read_bytes()
    certified = parse_certificate(data)
    beside = signature_path(file)
    if not beside.is_file():
        raise Unusable(f"{beside} is not there; the signature belongs beside its certificate")
    answer = check_certificate(
        data,
        beside.read_bytes(),
        trusted=trusted,
        folder=folder_of(name or certified.adapter),
        at=datetime.now(UTC),
    )
    if isinstance(answer, Refusal):
        print(f"NOT VALID 无效: {answer.detail}")
        return 1
    passed = sum(clause.verdict == "passed" for clause in answer.clauses)
    print(
        f"valid 有效: {answer.adapter} ({answer.protocol}), {passed} of {len(answer.clauses)} clauses passed"
        f" and none failed, against {answer.against}, until {answer.expires_at:%Y-%m-%d}, signed by {answer.key_id}"
    )
    return 0


@adapter.command()
@click.argument("name")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0 for any free one.")
def simulate(*, name: str, host: str, port: int) -> None:
    """Run a merchant's simulator until it is interrupted; calls choose faults by a header."""
    from adapters.kit import registry
    from adapters.kit.simulator.faults import FAULT_HEADER, Wished
    from adapters.kit.simulator.stage import set_stage

    async def run(folder: Folder) -> None:
        stage = set_stage(folder, plan=Wished(), host=host, port=port)
        async with registry.simulator(folder)(folder, stage) as running:
            # An invented secret is a test's, and whoever calls the simulator must know it.
            secrets = {
                key: value.decode(errors="replace") for key, value in running.secrets.items()
            }
            print_json(
                {"settings": running.settings, "secrets": secrets, "fault_header": FAULT_HEADER}
            )
            await asyncio.Event().wait()

    asyncio.run(run(folder_of(name)))


def folder_of(name: str) -> Folder:
    """A merchant's folder, by its code or by its path."""
    from adapters.kit import registry

    if "/" in name or name in (".", ".."):
        return registry.at(Path(name))
    return registry.find(name)


def _show(code: str, findings: list[Finding]) -> None:
    from rich.table import Table

    table = Table(
        "clause 条款",
        "verdict 结果",
        "what was seen, and how to mend it 问题与修复",
        title=code,
    )
    for finding in findings:
        told = finding.sentence
        if finding.verdict == "failed":
            told = f"{finding.sentence}\n[red]{_plain(finding.seen)}[/]\n[bold]{_plain(finding.mend)}[/]"
        table.add_row(finding.id, VERDICTS[finding.verdict], told)
    out().print(table)
    failed = sum(finding.verdict == "failed" for finding in findings)
    passed = sum(finding.verdict == "passed" for finding in findings)
    others = len(findings) - passed - failed
    print(f"{code}: {passed} passed, {failed} failed, {others} not applicable or not tried")


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _as_json(folder: Folder | None, findings: list[Finding]) -> dict[str, object]:
    from adapters.kit.folder import digest_of
    from exchange.service.hosted import PROTOCOL

    return {
        "adapter": folder.code if folder else PROTOCOL,
        "digest": digest_of(folder.path) if folder else None,
        "passed": not any(finding.verdict == "failed" for finding in findings),
        "clauses": [
            {
                "id": finding.id,
                "sentence": finding.sentence,
                "verdict": finding.verdict,
                "seen": finding.seen,
                "mend": finding.mend,
            }
            for finding in findings
        ],
    }
