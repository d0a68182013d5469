"""How mosquitto is started, what is said when it cannot be, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from roboticks_tasks.sim.platform import mosquitto
from tests.contract.pki import Authority
from tests.parts import require


@pytest.fixture
def program() -> str:
    return require("mosquitto")


@pytest.fixture
def options(program: str, tmp_path: Path) -> dict[str, Any]:
    server = Authority(tmp_path / "pki").server
    files = {"ca": server.ca, "certificate": server.certificate, "key": server.key}
    return {"host": "127.0.0.1", "port": 0, "directory": tmp_path / "folder of it", "program": program, **files}


def test_it_is_found_where_distributions_put_it(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert mosquitto.find() == program


def test_its_port_is_open_once_it_is_started_and_closed_once_it_is_stopped(options: dict[str, Any]) -> None:
    async def scenario() -> int:
        broker = await mosquitto.start(**options)
        socket.create_connection(("127.0.0.1", broker.port)).close()
        await broker.stop()
        await broker.stop()
        return broker.port

    port = asyncio.run(scenario())
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_its_files_are_private(options: dict[str, Any]) -> None:
    async def scenario() -> None:
        await (await mosquitto.start(**options)).stop()

    asyncio.run(scenario())
    folder: Path = options["directory"]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in folder.iterdir()] == [0o600] * 2


def test_a_port_in_use_is_an_oserror(options: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(OSError, match="in use") as caught:
            asyncio.run(mosquitto.start(**{**options, "port": taken.getsockname()[1]}))
        assert caught.value.errno == errno.EADDRINUSE


def test_a_free_port_that_was_taken_meanwhile_is_replaced(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> int:
        broker = await mosquitto.start(**options)
        await broker.stop()
        return broker.port

    with socket.create_server(("127.0.0.1", 0)) as taken:
        real, first = mosquitto._free_port, [int(taken.getsockname()[1])]
        monkeypatch.setattr(mosquitto, "_free_port", lambda host: first.pop() if first else real(host))
        assert asyncio.run(scenario()) != taken.getsockname()[1]
    assert not first


def test_its_last_words_are_in_the_error(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"ended with code \d+ at its start: .*certificate"):
        asyncio.run(mosquitto.start(**{**options, "certificate": tmp_path / "missing.crt"}))


def test_a_program_that_hangs_is_given_up_and_killed(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = tmp_path / "hanging"
    hanging.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\necho thinking >&2\nexec sleep 60\n")
    hanging.chmod(0o700)
    monkeypatch.setattr(mosquitto, "START_SECONDS", 0.2)
    with pytest.raises(RuntimeError, match=r"not ready after 0\.2 s: thinking"):
        asyncio.run(mosquitto.start(**{**options, "program": str(hanging)}))
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_its_unexpected_end_is_logged(options: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        broker = await mosquitto.start(**options)
        os.kill(broker.pid, signal.SIGKILL)
        await broker.ended

    asyncio.run(scenario())
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert [message.split(":")[0] for message in errors] == ["mosquitto ended by itself with code -9"]


def test_it_dies_with_its_parent(options: dict[str, Any]) -> None:
    script = (
        "import asyncio, pathlib, sys\n"
        "from roboticks_tasks.sim.platform import mosquitto\n"
        "async def main():\n"
        "    names = ('directory', 'ca', 'certificate', 'key')\n"
        "    paths = dict(zip(names, map(pathlib.Path, sys.argv[2:])))\n"
        "    broker = await mosquitto.start(host='127.0.0.1', port=0, program=sys.argv[1], **paths)\n"
        "    print(broker.pid, flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    paths = [str(options[name]) for name in ("program", "directory", "ca", "certificate", "key")]
    with subprocess.Popen([sys.executable, "-c", script, *paths], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        try:
            assert select.select([child], [], [], 0) == ([], [], [])
            parent.kill()
            assert select.select([child], [], [], 5) == ([child], [], [])
        finally:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(child, signal.SIGKILL)
            os.close(child)
