"""Which broker starts on which port, and how its loss is noticed; real brokers are in the contract tests."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from roboticks_tasks.sim.platform import __main__ as program
from roboticks_tasks.sim.platform import authority, broker, brokers, ports, service


class Fake:
    """A broker that listens nowhere."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def stop(self) -> None:
        """Do nothing."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let every port that is named be taken by somebody else at the last moment; return those asked for."""
    asked: list[int] = []

    async def start(*, port: int, **_: Any) -> Fake:
        asked.append(port)
        if port:
            raise OSError(errno.EADDRINUSE, f"port {port} is in use")
        return Fake(4711)

    monkeypatch.setattr(broker, "start", start)
    monkeypatch.setattr(brokers, "server_context", lambda _: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    return asked


def free_port() -> int:
    with ports.bind(0) as probe:
        return int(probe.getsockname()[1])


def start(folder: Path, *, demanded: int = 0, last: int = 0) -> Awaitable[tuple[str, brokers.Broker]]:
    return brokers.start(folder, authority.files(folder), wanted="builtin", demanded_port=demanded, last_port=last)


def test_a_remembered_port_that_is_taken_in_the_last_moment_is_given_up(tmp_path: Path, asked: list[int]) -> None:
    async def scenario() -> int:
        return (await start(tmp_path, last=port))[1].port

    port = free_port()
    assert asyncio.run(scenario()) == 4711
    assert asked == [port, 0]


def test_a_demanded_port_that_is_taken_in_the_last_moment_is_an_error(tmp_path: Path, asked: list[int]) -> None:
    async def scenario() -> None:
        await start(tmp_path, demanded=port)

    port = free_port()
    with pytest.raises(OSError, match="in use"):
        asyncio.run(scenario())
    assert asked == [port]


def test_a_broker_that_is_lost_during_the_start_ends_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lost.set_exception(brokers.BrokerLostError("gone"))
        await asyncio.wait_for(service._connected(asyncio.Event(), lost), 1)

    monkeypatch.setattr(service, "CONNECT_SECONDS", 60)
    with pytest.raises(brokers.BrokerLostError, match="gone"):
        asyncio.run(scenario())


@pytest.mark.parametrize(
    ("free", "code", "word"), [(10**9, "failed", "SQLITE_IOERR_WRITE"), (0, "disk-full", "is full")]
)
def test_a_fault_of_the_disk_is_called_full_only_when_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, code: str, word: str
) -> None:
    usage: Callable[[Path], Any] = lambda _: type("Usage", (), {"free": free})  # noqa: E731
    monkeypatch.setattr("shutil.disk_usage", usage)
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorname = "SQLITE_IOERR_WRITE"
    found, message = program.explain(error, tmp_path)
    assert found == code
    assert word in message
