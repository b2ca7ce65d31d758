"""`tongdui doctor`: what is wrong with this machine, database, keys or clock, and what to do."""

from __future__ import annotations

from dataclasses import asdict

import click

from exchange.cli.context import this_home
from exchange.cli.output import out, print_json

MARKS = {"ok": "[green]✓[/]", "note": "[yellow]•[/]", "wrong": "[red]✗[/]"}
HEADINGS = {
    "machine": "machine 机器",
    "database": "database 数据库",
    "clock": "clock 时钟",
    "keys": "keys 密钥",
    "processes": "processes 进程",
}


@click.command()
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address that `serve` would use."
)
@click.option("--port", type=click.IntRange(1, 65535), default=8080, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def doctor(context: click.Context, *, host: str, port: int, as_json: bool) -> None:
    """Say what is wrong with this machine, database, keys or clock, and what to do.

    Ends with status 1 if anything is wrong. Nothing is changed; the private server is started for the moment if it
    does not run.
    """
    from rich.markup import escape

    from exchange.cli.checks import examine_everything

    home = this_home()
    findings = examine_everything(home, host=host, port=port)
    wrong = sum(finding.state == "wrong" for finding in findings)
    if as_json:
        print_json(
            {
                "home": str(home.folder),
                "wrong": wrong,
                "findings": [asdict(each) for each in findings],
            }
        )
    else:
        console = out()
        console.print(f"home: {escape(str(home.folder))}", soft_wrap=True)
        for name, heading in HEADINGS.items():
            console.print(f"[bold]{heading}[/]")
            for finding in findings:
                if finding.check == name:
                    console.print(
                        f"  {MARKS[finding.state]} {escape(finding.what)}", soft_wrap=True
                    )
                    if finding.state != "ok":
                        console.print(f"      why:  {escape(finding.why)}", soft_wrap=True)
                        console.print(f"      do:   {escape(finding.todo)}", soft_wrap=True)
        console.print(
            "[green]Nothing is wrong. 一切正常。[/]"
            if not wrong
            else f"[red]{wrong} to put right. {wrong} 项需要处理。[/]"
        )
    context.exit(1 if wrong else 0)
