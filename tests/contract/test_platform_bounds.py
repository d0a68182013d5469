"""The local platform's bounds: it listens on this machine alone, and who dawdles or asks too much is shown out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from roboticks_tasks.sim.platform import ports, web
from roboticks_tasks.sim.platform.throttle import Sparse
from tests import parts
from tests.conditions import until
from tests.contract.platform_process import Platform, running

LISTENS = "0A"
LOOPBACK = {"0100007F", "00000000000000000000000001000000"}
"""127.0.0.1 and ::1, as the kernel writes them in /proc/net/tcp and tcp6."""

HEAD = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"


def children(pid: int) -> Iterator[int]:
    """Yield a process and all that descend from it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that has ended meanwhile
            for child in (task / "children").read_text().split():
                yield from children(int(child))


def listening(pid: int) -> set[tuple[str, int]]:
    """Return the addresses (as the kernel writes them) and ports on which a process listens, TCP and UDP."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(os.readlink(descriptor).removeprefix("socket:[").removesuffix("]"))  # noqa: PTH115
    found = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in inodes and (fields[3] == LISTENS or table.startswith("udp")):
                address, _, port = fields[1].partition(":")
                found.add((address, int(port, 16)))
    return found


@pytest.mark.parametrize("broker", ["builtin", "mosquitto"])
def test_it_listens_on_this_machine_alone(tmp_path: Path, broker: str) -> None:
    if broker == "mosquitto":
        parts.require("mosquitto")
    with running(tmp_path / "platform", "--broker", broker) as platform:
        expected = 2 if broker == "mosquitto" else 1
        processes = until(lambda: found if len(found := list(children(platform.process.pid))) == expected else None)
        found = set[tuple[str, int]]().union(*map(listening, processes))
        assert {address for address, _ in found} <= LOOPBACK
        http = int(platform.ready["url"].rpartition(":")[2])
        assert {port for _, port in found} == {http, platform.ready["mqtt"]["port"]}


def test_it_may_open_as_many_connections_as_it_takes(tmp_path: Path) -> None:
    def few() -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))

    with running(tmp_path / "platform", "--broker", "builtin", preexec_fn=few) as platform:
        soft, hard = resource.prlimit(platform.process.pid, resource.RLIMIT_NOFILE)
        assert soft >= min(2000, hard)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running(tmp_path_factory.mktemp("bounds") / "platform", "--broker", "builtin") as platform:
        yield platform


def exchange(port: int, data: bytes) -> bytes:
    """Send bytes and return all that comes until the server hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=15) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while chunk := connection.recv(65536):
                answer += chunk
        return answer


@pytest.mark.parametrize(
    "data",
    [
        HEAD + b"X-Large: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        HEAD + b"".join(b"X-%d: 1\r\n" % number for number in range(3000)) + b"\r\n",
        b"\x16\x03\x01\x02\x00" + bytes(200) + b"\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /api/v1/fleet/register HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nzz\r\n",
    ],
    ids=["a header", "an address", "many headers", "TLS", "a version", "a length", "two lengths"],
)
def test_a_request_beyond_the_bounds_is_refused(platform: Platform, data: bytes) -> None:
    answer = exchange(int(platform.ready["url"].rpartition(":")[2]), data)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 401 ")), answer[:100]
    assert platform.get("/api/v1/health")["status"] == "ok"
    assert "Traceback" not in platform.log


def test_nonsense_does_not_fill_the_log(platform: Platform) -> None:
    port = int(platform.ready["url"].rpartition(":")[2])
    before = platform.log.count("\n")
    for _ in range(100):
        exchange(port, b"\0nonsense\r\n\r\n")
    assert platform.log.count("\n") - before < 10


async def echo(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def much(_request: Request) -> Response:
    return PlainTextResponse("x" * 50_000_000)


class Served:
    """Our listener with short clocks, in a thread."""

    def __init__(self) -> None:
        self.listener = ports.bind(0)
        self.port = int(self.listener.getsockname()[1])
        self.loop = asyncio.new_event_loop()
        self.started, self.end = threading.Event(), asyncio.Event()
        self.thread = threading.Thread(target=self.loop.run_until_complete, args=[self._serve()])

    async def _serve(self) -> None:
        app = Starlette(routes=[Route("/", echo, methods=["GET", "POST"]), Route("/much", much)])
        async with web.serving(app, self.listener):
            self.started.set()
            await self.end.wait()

    def stop(self) -> None:
        """End it."""
        self.loop.call_soon_threadsafe(self.end.set)
        self.thread.join()
        self.loop.close()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(web, "REQUEST_SECONDS", 0.3)
    monkeypatch.setattr(web, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(web, "CONNECTIONS", 5)
    one = Served()
    one.thread.start()
    assert one.started.wait(10)
    yield one
    one.stop()


def asked(connection: socket.socket) -> bool:
    """Ask, read the whole answer, and tell whether it is one."""
    connection.sendall(HEAD + b"\r\n")
    answer = b""
    while not answer.endswith(b"\r\n\r\n0") and (chunk := connection.recv(65536)):
        answer += chunk
    return b"200 OK" in answer


def hangs_up(connection: socket.socket) -> bool:
    """Tell whether the server ends the connection, within some seconds and without an answer."""
    connection.settimeout(10)
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize(
    "begin",
    [b"", b"GET", HEAD, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n123"],
    ids=["nothing", "half a line", "half a head", "half a body"],
)
@pytest.mark.parametrize("again", [False, True], ids=["first", "second"])
def test_a_request_that_never_comes_whole_is_not_waited_for(served: Served, begin: bytes, again: bool) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        if again:
            assert asked(connection)
            begin = begin or b"G"
        connection.sendall(begin)
        assert hangs_up(connection)


def test_a_request_by_the_byte_is_not_waited_for(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:

        def dripped() -> bool:
            try:
                connection.sendall(b"G")
            except ConnectionError:
                return True
            return False

        until(dripped, "the server hangs up")


def test_a_connection_that_is_kept_stays_without_a_request(served: Served) -> None:
    with (
        socket.create_connection(("127.0.0.1", served.port), timeout=10) as kept,
        socket.create_connection(("127.0.0.1", served.port), timeout=10) as dawdler,
    ):
        assert asked(kept)
        assert hangs_up(dawdler)  # as much later as the clock of a request runs
        assert asked(kept)


def test_who_does_not_read_the_answer_is_hung_up_on(served: Served) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted, not looked at

    before = descriptors()
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        connection.sendall(b"GET /much HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: descriptors() == before + 2, "the server, in this process, has taken the connection")
        until(lambda: descriptors() == before + 1, "it has closed its end")
        received = 0
        with contextlib.suppress(ConnectionError):
            while chunk := connection.recv(1 << 20):
                received += len(chunk)
        assert received < 50_000_000


def test_connections_beyond_the_limit_are_closed_and_later_ones_welcome(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "REQUEST_SECONDS", 60.0)  # it is not the clock that closes them
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(socket.create_connection(("127.0.0.1", served.port), timeout=10)) for _ in range(6)]
        assert asked(many[0])
        assert hangs_up(many[-1])
    until(lambda: b"200 OK" in exchange(served.port, HEAD + b"Connection: close\r\n\r\n"), "there is room again")


def test_a_log_filter_lets_ever_fewer_records_of_a_kind_pass() -> None:
    sparse = Sparse()
    passed = [sparse.filter(logging.LogRecord("n", 30, "p", 1, "kind %s", (n,), None)) for n in range(1, 17)]
    assert [n for n, it in enumerate(passed, 1) if it] == [1, 2, 4, 8, 16]
    assert sparse.filter(logging.LogRecord("n", 30, "p", 1, "another", (), None))
