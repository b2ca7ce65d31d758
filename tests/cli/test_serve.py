"""`tongdui serve`: everything that it starts, keeps running and stops."""

import asyncio
import contextlib
import hashlib
import io
import json
import os
import signal
import socket
import stat
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from deploy.database.connection import open_writer_connection
from exchange.programme.service.rider import ProgrammeRider
from settlement.service.clearing import Writer
from tests.cli.conftest import Command, Process, assert_one_sentence
from tests.processes import children, is_alive

PROGRAMMES = "deploy/demo/programmes.toml"


@dataclass
class Serving:
    """A server that runs, and a caller with the operator's key."""

    process: Process
    ready: dict[str, Any]
    home: Path

    @property
    def pid(self) -> int:
        """Process id of the supervisor."""
        return self.process.popen.pid

    def children(self, name: str) -> list[int]:
        """Child processes that run a module."""
        return children(self.pid, name)

    def call(
        self, method: str, path: str, body: object = None, *, key: str | None = None
    ) -> tuple[int, bytes]:
        """One request with the operator's key; status and body, whatever the status."""
        request = urllib.request.Request(
            self.ready["url"] + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {(self.home / 'operator.key').read_text().strip()}",
                "Content-Type": "application/json",
                **({"Idempotency-Key": key} if key else {}),
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def json(self, method: str, path: str, body: object = None, *, key: str | None = None) -> Any:
        """One request that must succeed."""
        status, data = self.call(method, path, body, key=key)
        assert status < 300, data
        return json.loads(data)

    def json_soon(self, method: str, path: str, body: object = None, *, key: str) -> Any:
        """One keyed request that succeeds once whoever was killed is back; until then 503, or no answer."""
        deadline = time.monotonic() + 90
        while True:
            with contextlib.suppress(OSError):
                status, data = self.call(method, path, body, key=key)
                if status != 503:
                    assert status < 300, data
                    return json.loads(data)
            assert time.monotonic() < deadline, "not back in time"
            time.sleep(0.1)

    def wait_ready(self, seconds: float = 90) -> None:
        """Wait until orders can be taken."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if self.call("GET", "/readyz")[0] == 200:
                    return
            except OSError:
                pass
            assert time.monotonic() < deadline, "not ready in time"
            time.sleep(0.1)

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self.process.popen.send_signal(signal.SIGTERM)
        return self.process.popen.wait(timeout=120)


@pytest.fixture
def serving() -> Iterator[Callable[..., Serving]]:
    """A function that starts a server; what still runs at the end is stopped."""
    started: list[Serving] = []

    def start(command: Command, *args: object) -> Serving:
        # The callers of these tests send the operator's API key; that signatures count is tested elsewhere.
        kind = () if "--sandbox" in args else ("--sandbox", "--no-simulators")
        process = command.start("serve", "--json", "--port", 0, *kind, *args)
        started.append(
            Serving(process=process, ready=json.loads(process.read_line()), home=command.home)
        )
        return started[-1]

    yield start
    for each in started:
        if each.process.popen.poll() is None:
            each.process.popen.kill()
        each.process.popen.communicate()


def with_merchants(command: Command) -> None:
    """Register the demo's merchants through the command line."""
    done = command("merchant", "add", "--from-file", PROGRAMMES)
    assert done.returncode == 0, done.stderr


def order(member: str) -> dict[str, object]:
    """Ten points of GROCERY for PASTRY."""
    return {"member": member, "issuer": "GROCERY", "acceptor": "PASTRY", "units": "10"}


def give_points(server: Serving, member: str) -> None:
    """Enrol a member with points."""
    server.json("POST", "/v1/members", {"members": [member]})
    server.json(
        "POST",
        "/v1/accruals",
        {"member": member, "merchant": "GROCERY", "units": "100000"},
        key=f"points-{member}",
    )


def wait_gone(pids: list[int], seconds: float = 60) -> None:
    """Wait until none of these processes is left."""
    deadline = time.monotonic() + seconds
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "children are left"
        time.sleep(0.05)


def test_it_serves_and_stops_gracefully(tongdui, home, dsn, serving):
    """It is ready when it says so, keeps its secrets, and SIGTERM ends everything with status 0."""
    server = serving(tongdui, "--gateways", 2)
    assert server.call("GET", "/healthz")[0] == 200
    assert server.json("GET", "/readyz")["ready"] is True
    assert len(server.children("cli.gateway")) == len(server.ready["gateway_pids"]) == 2
    [writer] = server.children("worker.writer")
    assert writer == server.ready["writer_pid"]

    # The operator's key: shown this once, kept in a closed file, stored as a digest.
    key = server.ready["operator_key"]
    assert (home / "operator.key").read_text().strip() == key
    assert stat.S_IMODE((home / "operator.key").stat().st_mode) == 0o600

    async def stored() -> set[bytes]:
        connection = await asyncpg.connect(dsn)
        rows = await connection.fetch("SELECT digest FROM exchange.api_key")
        await connection.close()
        return {bytes(row["digest"]) for row in rows}

    assert asyncio.run(stored()) == {hashlib.sha256(key.encode()).digest()}

    # No connection string in the list of processes: it may hold a password.
    for child in psutil.Process(server.pid).children():  # None of them ends now.
        assert dsn not in " ".join(child.cmdline())

    # A second one on the same folder would write beside it.
    assert f"process {server.pid}" in assert_one_sentence(tongdui("serve", "--port", 0))

    pids = [child.pid for child in psutil.Process(server.pid).children()]
    assert len(pids) == 6  # Two gateways, writer, packager, order worker, delivery worker.
    assert server.stop() == 0
    wait_gone(pids)

    again = serving(tongdui)
    assert again.ready["operator_key"] is None
    assert again.json("GET", "/v1/cycles")["cycles"]
    assert again.stop() == 0


def test_what_was_asked_before_the_end_is_answered(tongdui, serving):
    """A request in flight at SIGTERM gets its answer; the gateways end before the writer."""
    server = serving(tongdui)
    with_merchants(tongdui)
    server.json("POST", "/v1/members", {"members": ["m1"]})
    purchases = [
        {
            "key": f"p-{number}",
            "member": "m1",
            "merchant": "GROCERY",
            "amount_fen": "100",
            "discount_fen": "0",
        }
        for number in range(5000)
    ]
    body = json.dumps(purchases).encode()
    host, port = server.ready["url"].removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=120) as connection:
        # With little room on the way, what is sent whole is for the most part read: the request is in flight.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        connection.sendall(
            b"POST /v1/purchases/bulk HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            + f"Authorization: Bearer {(server.home / 'operator.key').read_text().strip()}\r\n".encode()
            + f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
            + body
        )
        server.process.popen.send_signal(signal.SIGTERM)
        answer = b""
        while piece := connection.recv(1 << 16):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 200"), answer[:300]
    assert server.process.popen.wait(timeout=120) == 0
    log = server.process.popen.communicate()[1]
    stopped = [
        line["event"]
        for line in map(json.loads, log.splitlines())
        if line["event"] in ("gateway.stopped", "writer.stopped")
    ]
    assert stopped == ["gateway.stopped", "writer.stopped"]


@pytest.mark.kill
def test_killed_children_are_started_again_and_orders_go_on(tongdui, serving):
    """After kill -9 of a gateway and of the writer orders go on, and a repeated key gets its first answer."""
    server = serving(tongdui, "--gateways", 2)
    with_merchants(tongdui)
    give_points(server, "m1")
    first = server.json("POST", "/v1/orders", order("m1"), key="one")

    os.kill(server.ready["gateway_pids"][0], signal.SIGKILL)
    server.wait_ready()
    assert server.json_soon("POST", "/v1/orders", order("m1"), key="one") == first

    os.kill(server.ready["writer_pid"], signal.SIGKILL)
    server.wait_ready()
    assert server.json_soon("POST", "/v1/orders", order("m1"), key="one") == first
    second = server.json_soon("POST", "/v1/orders", order("m1"), key="two")
    assert second["order_id"] != first["order_id"]

    deadline = time.monotonic() + 90
    while len(server.children("cli.gateway")) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert server.stop() == 0


@pytest.mark.kill
def test_children_never_outlive_a_killed_supervisor(tongdui, serving):
    """Kill -9 of the supervisor ends the children, gracefully; the next start takes over."""
    server = serving(tongdui, "--gateways", 2)
    pids = [child.pid for child in psutil.Process(server.pid).children()]
    os.kill(server.pid, signal.SIGKILL)
    server.process.popen.wait()
    wait_gone(pids)
    assert serving(tongdui).stop() == 0


@pytest.mark.kill
def test_a_killed_private_database_is_started_again(private_tongdui, home, serving):
    """Kill -9 of the private PostgreSQL: it is started again, and orders go on."""
    server = serving(private_tongdui)
    with_merchants(private_tongdui)
    give_points(server, "m1")
    first = server.json("POST", "/v1/orders", order("m1"), key="one")
    os.kill(
        int((home / "database" / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL
    )
    server.wait_ready()
    assert server.json_soon("POST", "/v1/orders", order("m1"), key="one") == first
    assert server.stop() == 0


def test_a_writer_that_was_fenced_off_ends_the_server(tongdui, dsn, serving):
    """When another writer takes the ledger over, this server says so and ends; it does not fight."""
    server = serving(tongdui)

    async def take_over() -> None:
        writer = Writer(
            connect=lambda: open_writer_connection(dsn),
            now_us=lambda: time.time_ns() // 1000,
            rider=ProgrammeRider(),
        )
        await writer.start()
        await writer.stop()

    asyncio.run(take_over())
    # The old writer notices when it writes next.
    with contextlib.suppress(OSError):
        server.call("POST", "/v1/cycles/close")
    assert server.process.popen.wait(timeout=120) == 2
    assert "the writer is gone" in server.process.popen.communicate()[1]


def test_a_command_elsewhere_does_not_take_the_ledger_over(tongdui, make_home, dsn, serving):
    """From another home, a command that would need a writer refuses instead of fencing the one that serves."""
    server = serving(tongdui)
    elsewhere = Command(home=make_home(), database_url=dsn)
    sentence = assert_one_sentence(
        elsewhere("merchant", "add", "A", "--spend", "1/1", "--cap", "1")
    )
    assert "not started from this home" in sentence
    assert elsewhere.json("merchant", "list") == []
    assert server.json("GET", "/readyz")["ready"] is True
    assert server.stop() == 0
    assert elsewhere("merchant", "add", "A", "--spend", "1/1", "--cap", "1").returncode == 0


def test_a_start_that_is_interrupted_leaves_nothing(private_tongdui, home):
    """SIGTERM while it starts ends it with status 0; the database it made is stopped again."""
    process = private_tongdui.start("serve", "--port", 0)
    deadline = time.monotonic() + 60
    while not (home / "database" / "data" / "postmaster.pid").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.popen.send_signal(signal.SIGTERM)
    process.popen.send_signal(signal.SIGTERM)
    assert process.popen.wait(timeout=120) == 0
    process.popen.communicate()
    assert not (home / "database" / "data" / "postmaster.pid").exists()


def test_a_closed_cycle_gets_its_package(tongdui, home, serving):
    """A cycle that is closed over HTTP is cut without being asked for, and can be downloaded and verified."""
    server = serving(tongdui)
    with_merchants(tongdui)
    give_points(server, "m1")
    server.json("POST", "/v1/orders", order("m1"), key="one")
    closed = server.json("POST", "/v1/cycles/close")["closed"]
    deadline = time.monotonic() + 90
    while not server.json("GET", f"/v1/cycles/{closed}")["package"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    archive = zipfile.ZipFile(io.BytesIO(server.call("GET", f"/v1/packages/{closed}")[1]))
    names = {name.rpartition("/")[2] for name in archive.namelist()}
    assert {"manifest.json", "manifest.sig", "positions.csv"} <= names
    assert tongdui("verify", home / "packages" / closed).returncode == 0

    # The command line closes the next one, beside the running server.
    done = tongdui.json("cycle", "close", "--settle")
    assert tongdui("verify", done["package"]).returncode == 0
    states = {row["cycle_id"]: row["state"] for row in tongdui.json("cycle", "show")}
    assert states[done["closed"]] == "settled"
    assert states[done["open"]] == "open"
    shown = tongdui.json("cycle", "show", closed)
    assert shown["orders"] == 1
    assert sum(int(each["net_cu"]) for each in shown["parties"]) == 0
    assert sum(int(each["pay_fen"]) for each in shown["payments"]) == 0
    assert tongdui("doctor").stdout.count("the writer answers") == 1
    assert tongdui.json("audit")["clean"] is True


def test_a_port_in_use_is_said_so(tongdui):
    """A port that somebody else has makes one sentence, and nothing is started."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        sentence = assert_one_sentence(tongdui("serve", "--port", taken.getsockname()[1]))
    assert "Address already in use" in sentence


def test_a_child_that_cannot_start_is_said_so(tongdui, home):
    """A gateway that cannot read its keys ends the start with one sentence, and leaves nothing running."""
    (home / "keys").mkdir(mode=0o700)
    assert tongdui("keys", "generate").returncode == 0
    (home / "keys" / "quotes.json").write_text("[]")
    (home / "keys" / "quotes.json").chmod(0o600)
    done = tongdui.apart("serve", "--port", 0)
    assert "gateway 1 does not start" in assert_one_sentence(done)
    assert "quotes.json holds no usable key" in done.stderr
    assert not [
        each
        for each in psutil.process_iter(["cmdline"])
        if str(home) in " ".join(each.info["cmdline"] or [])
    ]


def test_options_that_do_not_fit_are_said_so(tongdui):
    """A name that is no host, and a sandbox's option without a sandbox, are refused before anything starts."""
    assert "is no host" in tongdui("serve", "--public-name", "https://api.example.com").stderr
    assert "goes with --sandbox" in tongdui("serve", "--no-simulators").stderr
    assert "No such option" in tongdui("serve", "--no-require-signatures").stderr
