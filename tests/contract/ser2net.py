"""A real console server: ser2net on a pseudo terminal whose other end the test has."""

from __future__ import annotations

import os
import pty
import select
import socket
import subprocess
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.conditions import until

ACCEPTERS = {"socket": "tcp", "rfc2217": "telnet(rfc2217),tcp"}
"""What ser2net accepts for each scheme of our addresses."""


class Server:
    """A console server that runs, and the board's end of the port that it serves."""

    def __init__(self, url: str, board: int, process: subprocess.Popen[bytes]) -> None:
        self.url = url
        self.board = board
        self.process = process

    def say(self, data: bytes) -> None:
        """Let the board send all of `data`."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self.board, rest) :]

    def hear(self, size: int, timeout: float = 10.0) -> bytes:
        """Return `size` bytes that the board receives."""
        heard = b""
        deadline = time.monotonic() + timeout
        while len(heard) < size and select.select([self.board], [], [], max(0.0, deadline - time.monotonic()))[0]:
            heard += os.read(self.board, size - len(heard))
        return heard


@contextmanager
def serving(program: str, folder: Path, scheme: str) -> Iterator[Server]:
    """Run ser2net at `program` for the block, with its files in `folder`; `scheme` is socket or rfc2217."""
    board, terminal = pty.openpty()
    tty.setraw(terminal)
    try:
        with serving_device(program, folder, scheme, device=os.ttyname(terminal)) as (url, process):
            yield Server(url, board, process)
    finally:
        for descriptor in (board, terminal):
            with suppress(OSError):
                os.close(descriptor)


@contextmanager
def serving_device(
    program: str, folder: Path, scheme: str, *, device: str
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run ser2net for the port `device`; yield the address by which it is reached, and the process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = folder / "ser2net.yaml"
    accepter = ACCEPTERS[scheme]
    config.write_text(
        f"connection: &con1\n  accepter: {accepter},127.0.0.1,{port}\n  connector: serialdev,{device},115200n81,local\n"
    )
    with (folder / "ser2net.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-d", "-u", "-c", str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        until(lambda: _listens(process, port), f"ser2net on port {port}: {(folder / 'ser2net.log').read_text()}")
        yield f"{scheme}://127.0.0.1:{port}", process
    finally:
        process.kill()
        process.wait()


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    """Tell whether the server listens, without a connection: that would open the port."""
    assert process.poll() is None, "ser2net has ended"
    wanted = f":{port:04X} 00000000:0000 0A"
    return any(wanted in line for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines())
