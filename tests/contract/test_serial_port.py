"""Serial ports and console servers as they are: opened quietly and alone, or refused with the reason."""

from __future__ import annotations

import builtins
import errno
import fcntl
import os
import re
import socket
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from roboticks_tasks.errors import BoardError, ConfigError, TargetError
from roboticks_tasks.profiles.values import Console
from roboticks_tasks.serial_console import library, port
from roboticks_tasks.serial_console.captures import start_capture, stop_capture
from roboticks_tasks.serial_console.line import open_line
from roboticks_tasks.serial_console.port import open_port
from tests.conditions import until
from tests.contract import ser2net
from tests.contract.terminals import Terminal, came, own_folder
from tests.parts import require


@pytest.fixture(autouse=True)
def private(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with own_folder(monkeypatch) as folder:
        yield folder


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path / "usb-board-0")
    yield terminal
    terminal.unplug()


@pytest.fixture(params=["socket", "rfc2217"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ser2net.Server]:
    with ser2net.serving(require("ser2net"), tmp_path, request.param) as running:
        yield running


def refusal(path: str | Path, baudrate: int = 115200) -> str:
    with pytest.raises((BoardError, ConfigError)) as caught:
        open_port(Console(port=str(path), baudrate=baudrate))
    return str(caught.value)


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number: int = listener.getsockname()[1]
    return number


def test_a_line_without_a_capture_has_the_port_itself(terminal: Terminal) -> None:
    with open_line(Console(port=str(terminal.path))) as line:
        terminal.say(b"login: ")
        assert came(line, 7) == b"login: "
        assert line.read(0.0) == b""
        line.write(bytes(range(256)))
        assert terminal.hear(256) == bytes(range(256))


def test_a_line_reads_what_is_there(terminal: Terminal) -> None:
    with open_line(Console(port=str(terminal.path))) as line:
        terminal.say(b"x" * 3000)
        assert came(line, 3000) == b"x" * 3000


def test_a_direct_line_is_lost_with_its_port(terminal: Terminal) -> None:
    with open_line(Console(port=str(terminal.path))) as line:
        terminal.unplug()
        with pytest.raises(TargetError, match="usb-board-0 is lost: it hung up"):
            line.read(20.0)
        with pytest.raises(TargetError, match="usb-board-0 is lost: it hung up"):
            line.write(b"x")


def test_opening_a_port_lowers_the_lines_that_reset_boards_and_raises_none(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = []
    real = fcntl.ioctl

    def recorded(fd: Any, request: int, *rest: Any) -> Any:
        if request in {termios.TIOCMBIS, termios.TIOCMBIC}:
            changes.append((request, struct.unpack("I", rest[0])[0]))
            return 0  # a pty has no such lines
        return real(fd, request, *rest)

    monkeypatch.setattr(fcntl, "ioctl", recorded)
    open_port(Console(port=str(terminal.path))).close()
    assert changes == [(termios.TIOCMBIC, termios.TIOCM_DTR), (termios.TIOCMBIC, termios.TIOCM_RTS)]


def test_a_port_is_raw_at_its_speed_without_flow_control(terminal: Terminal) -> None:
    opened = open_port(Console(port=str(terminal.path), baudrate=921600))
    iflag, oflag, cflag, lflag, speed, _, _ = termios.tcgetattr(opened.fileno())
    assert speed == termios.B921600
    assert not iflag & (termios.IXON | termios.IXOFF | termios.ICRNL)
    assert not oflag & termios.OPOST
    assert not cflag & termios.CRTSCTS
    assert not lflag & (termios.ECHO | termios.ICANON | termios.ISIG)
    opened.close()
    opened.close()


def test_a_port_that_does_not_exist_names_those_that_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from serial.tools import list_ports  # type: ignore[import-untyped]  # pyserial ships no types

    class Found:
        device = "/dev/ttyUSB7"

    monkeypatch.setattr(list_ports, "comports", lambda: [Found])
    text = refusal(tmp_path / "usb-FTDI-01")
    assert re.search(r"usb-FTDI-01 does not exist; those that exist: .*/dev/ttyUSB7$", text)
    monkeypatch.setattr(list_ports, "comports", list)
    monkeypatch.setattr(Path, "glob", lambda *_: iter(()))
    assert refusal(tmp_path / "x").endswith("x does not exist; no serial port exists here: plug the adapter in")


def test_a_file_that_is_no_port_is_said_to_be_none() -> None:
    assert "/dev/null is no serial port" in refusal("/dev/null")


def test_a_port_that_this_user_may_not_open_names_the_group(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    import grp

    def denied(path: str, *_: Any) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    group = grp.getgrgid(terminal.path.stat().st_gid).gr_name
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", denied)  # root may open everything
        text = refusal(terminal.path)
    assert "this user may not open the console" in text
    assert f"add the user to the group {group} " in text


def test_a_busy_port_names_the_process_that_has_it(terminal: Terminal) -> None:
    program = (
        "import sys; from serial import Serial; p = Serial(sys.argv[1], exclusive=True); print(1, flush=True); input()"
    )
    command = [sys.executable, "-c", program, str(terminal.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        assert other.stdin
        other.stdout.readline()
        assert re.search(rf"is busy: pid {other.pid} \(\S*python.* has it; end that process", refusal(terminal.path))
        other.stdin.close()


def test_a_port_that_a_terminal_program_reads_without_a_lock_is_busy_too(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(port, "PSEUDO", "none is")
    open_port(Console(port=str(terminal.path))).close()
    with Path(terminal.device).open("rb", buffering=0) as device, subprocess.Popen(["cat"], stdin=device) as other:
        text = refusal(terminal.path)
        other.kill()
    assert f"is busy: pid {other.pid} (cat) has it; end that process" in text


def test_a_port_that_a_run_captures_names_the_run(terminal: Terminal, tmp_path: Path) -> None:
    capture = start_capture(Console(port=str(terminal.path)), log=tmp_path / "run-7" / "console.log")
    try:
        assert f"captured by run {tmp_path}/run-7, pid {capture.process.pid};" in refusal(terminal.device)
    finally:
        stop_capture(capture)


@pytest.mark.parametrize("baudrate", [0, -9600, 2**31, 2**40])
def test_an_impossible_speed_is_the_profiles_fault(terminal: Terminal, baudrate: int) -> None:
    text = refusal(terminal.path, baudrate)
    assert f"cannot run at {baudrate} baud; correct `console.baudrate` in the profile" in text


@pytest.mark.parametrize(
    "url", ["socket://", "socket://host", "rfc2217://host", "socket://h:99999", "rfc2217://h:x", "nonsense://1"]
)
def test_an_address_that_is_none_says_how_to_write_one(url: str) -> None:
    text = refusal(url)
    assert f"the console {url} is no address: " in text
    assert text.endswith("write /dev/serial/by-id/…, socket://host:port or rfc2217://host:port")


@pytest.mark.parametrize("scheme", ["socket", "rfc2217"])
def test_a_server_that_does_not_listen_cannot_be_reached(scheme: str) -> None:
    url = f"{scheme}://127.0.0.1:{closed_port()}"
    text = refusal(url)
    assert f"the console server at {url} cannot be reached: " in text
    assert "Connection refused" in text
    assert "ign_set_control" not in text


def test_without_pyserial_the_remedy_is_one_command(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(
        name: str, globals: Any = None, locals: Any = None, fromlist: Sequence[str] = (), level: int = 0
    ) -> Any:
        if name.partition(".")[0] == "serial" and not level:
            raise ImportError(name)
        return real(name, globals, locals, fromlist, level)

    monkeypatch.setattr(builtins, "__import__", missing)
    assert refusal(terminal.path).endswith("pyserial, which is not installed; install `roboticks-tasks[serial]`")


def test_a_console_server_carries_every_byte_both_ways(server: ser2net.Server) -> None:
    every = bytes(range(256)) * 8
    with open_line(Console(port=server.url)) as line:
        line.write(every)
        assert server.hear(len(every)) == every
        server.say(every)
        assert came(line, len(every)) == every


def test_a_console_server_that_ends_is_noticed(server: ser2net.Server) -> None:
    with open_line(Console(port=server.url)) as line:
        server.process.kill()
        with pytest.raises(TargetError, match="is lost: the server closed the connection"):
            line.read(20.0)


def test_the_console_behind_a_server_is_captured(server: ser2net.Server, tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    console = Console(port=server.url)
    capture = start_capture(console, log=log)
    try:
        server.say(b"U-Boot\r\nlogin: ")
        until(lambda: b"Z login: " in log.read_bytes(), "the prompt in the log")
        with open_line(console) as line:
            line.write(b"root\r")
            assert server.hear(5) == b"root\r"
            server.say(b"root\r\n")
            assert came(line, 6) == b"root\r\n"
        with pytest.raises(BoardError, match=rf"busy: captured by run {re.escape(str(tmp_path))}, pid"):
            open_port(console)
        server.process.kill()
        until(
            lambda: b"--- console lost: the server closed the connection\n" in log.read_bytes(), "the loss in the log"
        )
    finally:
        assert stop_capture(capture) == "stopped"


def test_a_server_whose_port_is_taken_says_so(server: ser2net.Server) -> None:
    host, _, number = server.url.partition("://")[2].partition(":")
    with socket.create_connection((host, int(number))) as other:
        other.setblocking(True)
        until(lambda: _is_taken(server), "the server's port in use")
        text = refusal(server.url)
    told = f"the console server at {server.url} hung up at once: " in text
    if server.url.startswith("socket:"):
        assert told
        assert "Port already in use" in text
    else:  # on a busy machine a client of RFC 2217 meets its time-out first
        assert told or f"what listens at {server.url} does not speak RFC 2217" in text


def _is_taken(server: ser2net.Server) -> bool:
    """Tell whether ser2net has opened its end of the port."""
    for link in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it has just closed it
            if os.readlink(link).startswith("/dev/pts/"):  # noqa: PTH115 - a file that is a link to no file
                return True
    return False


def test_a_server_of_raw_bytes_is_not_mistaken_for_one_of_rfc_2217(tmp_path: Path) -> None:
    with ser2net.serving(require("ser2net"), tmp_path, "socket") as running:
        text = refusal(running.url.replace("socket:", "rfc2217:") + "?timeout=0.3")
    assert "does not speak RFC 2217" in text
    assert "use socket:// for a server of raw bytes" in text


def test_what_a_server_said_before_it_hung_up_is_not_lost() -> None:
    class Dead:
        in_waiting = 0

        def read(self, _: int) -> bytes:
            raise OSError("connection failed (reader thread died)")

        def left(self) -> bytes:
            return b"last words"

        def close(self) -> None:
            pass

    running = library.Pump(Dead())
    running.ours.settimeout(20.0)
    assert running.ours.recv(100) == b"last words"
    assert running.ours.recv(100) == b""
    assert running.reason() == "the server closed the connection"
    running.close()
