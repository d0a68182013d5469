"""The process that owns a serial port: all that comes out of it is in the log, whatever happens around it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from roboticks_tasks.errors import BoardError, TargetError
from roboticks_tasks.lifecycle.support.stopping import stop_capture_of
from roboticks_tasks.models import Capture
from roboticks_tasks.profiles.values import Console
from roboticks_tasks.serial_console.captures import find_capture, is_capturing, start_capture, stop_capture
from roboticks_tasks.serial_console.line import open_line
from tests.conditions import until
from tests.contract.small_disk import open_small_disk
from tests.contract.terminals import Terminal, came, own_folder

RECORD = re.compile(rb"(\d+\.\d{6}) (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) (.*)")

Start = Callable[..., Capture]


@pytest.fixture
def private(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with own_folder(monkeypatch) as folder:
        yield folder


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path / "usb-board-0")
    yield terminal
    terminal.unplug()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "run" / "console.log"


@pytest.fixture
def start(private: Path, terminal: Terminal, log: Path) -> Iterator[Start]:
    started: list[Capture] = []

    def begin(port: str = str(terminal.path), **options: Any) -> Capture:
        started.append(start_capture(Console(port=port, baudrate=3_000_000), **{"log": log, **options}))
        return started[-1]

    yield begin
    for capture in started:
        stop_capture(capture)


def records(log: Path) -> list[tuple[float, datetime, bytes]]:
    found = []
    for line in log.read_bytes().split(b"\n")[:-1]:
        match = RECORD.fullmatch(line)
        assert match, line
        found.append((float(match.group(1)), datetime.fromisoformat(match.group(2).decode()), match.group(3)))
    return found


def texts(log: Path) -> list[bytes]:
    return [text for _, _, text in records(log)]


def logged(log: Path, text: bytes) -> None:
    until(lambda: text in log.read_bytes(), f"{text!r} in the log")


def connected(capture: Capture) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(20.0)
    connection.connect(capture.socket)
    return connection


def received(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := connection.recv(size - len(data))):
        data += more
    return data


def memory(capture: Capture) -> int:
    """Return the most memory in bytes that the process ever had."""
    (line,) = (
        line
        for line in Path(f"/proc/{capture.process.pid}/status").read_text(encoding="ascii").splitlines()
        if line.startswith("VmHWM:")
    )
    return int(line.split()[1]) * 1024


def test_a_boot_log_that_begins_when_the_capture_is_ready_is_complete(
    start: Start, terminal: Terminal, log: Path
) -> None:
    capture = start()
    lines = [b"[%5d.000000] usb 1-1: new device" % number for number in range(2000)]
    terminal.say(b"\r\n".join(lines) + b"\r\n")
    logged(log, lines[-1] + b"\n")
    assert stop_capture(capture) == "stopped"
    assert texts(log) == lines


def test_each_record_has_the_monotonic_and_the_wall_clock_time_of_its_first_byte(
    start: Start, terminal: Terminal, log: Path
) -> None:
    start()
    before, wall = time.monotonic(), time.time()
    terminal.say(b"login: ")
    logged(log, b"login: ")
    between = time.monotonic()
    terminal.say(b"root\r\nnext\r\n")
    logged(log, b"next\n")
    first, second = records(log)
    assert first[2] == b"login: root"
    assert before - 1e-5 <= first[0] <= between <= second[0] <= time.monotonic()
    assert wall - 1e-3 <= first[1].timestamp() <= second[1].timestamp() <= time.time()


def test_bytes_that_are_no_text_cannot_take_over_a_terminal_that_shows_the_log(
    start: Start, terminal: Terminal, log: Path
) -> None:
    start()
    terminal.say(bytes(byte for byte in range(256) if byte not in b"\r\n") + b"\n")
    logged(log, b"\\xff\n")
    (text,) = texts(log)
    assert b"\\x1b" in text
    assert all(byte == 9 or 32 <= byte < 127 for byte in text)


def test_a_line_of_ten_megabytes_is_kept_in_pieces(start: Start, terminal: Terminal, log: Path) -> None:
    capture = start()
    terminal.say(b"x" * 10_000_000 + b"\nend\n")
    logged(log, b" end\n")
    *pieces, end = texts(log)
    assert b"".join(pieces) == b"x" * 10_000_000
    assert max(map(len, pieces)) == 65536
    assert end == b"end"
    assert memory(capture) < 60_000_000


def test_fifty_megabytes_as_fast_as_they_can_be_sent_arrive_in_bounded_memory(
    start: Start, terminal: Terminal, log: Path
) -> None:
    capture = start(size=200_000_000)
    line = b"The quick brown fox jumps over the lazy dog, and the log keeps all of it: 0123456789 abcdef\n"
    block = line * 5_000
    for _ in range(50_000_000 // len(block) + 1):
        terminal.say(block)
    terminal.say(b"end\n")
    logged(log, b" end\n")
    stop_capture(capture)
    found = hashlib.sha256()
    count = 0
    with log.open("rb") as file:
        for record in file:
            match = RECORD.match(record)
            assert match
            found.update(match.group(3) + b"\n")
            count += 1
    expected = hashlib.sha256(block * (50_000_000 // len(block) + 1) + b"end\n")
    assert count == 5_000 * (50_000_000 // len(block) + 1) + 1
    assert found.digest() == expected.digest()


def test_a_flood_does_not_grow_the_capture(start: Start, terminal: Terminal, log: Path) -> None:
    capture = start(size=1_000_000, keep=2)
    terminal.say(b"warm up\n" * 10_000)
    logged(log, b"warm up\n")
    before = memory(capture)
    for _ in range(200):
        terminal.say(b"\x1b[32m flood \xff\n" * 5_000)
    assert memory(capture) < before + 8_000_000


def test_an_unplugged_port_is_opened_again_when_its_link_is_back(start: Start, terminal: Terminal, log: Path) -> None:
    capture = start()
    terminal.say(b"before\r\nhalf a line")
    logged(log, b"half a line")
    terminal.unplug()
    logged(log, b"--- console lost: ")
    terminal.plug()
    logged(log, b"--- console back\n")
    terminal.say(b"after\r\n")
    logged(log, b"after\n")
    before, half, lost, back, after = texts(log)
    assert (before, half, back, after) == (b"before", b"half a line", b"--- console back", b"after")
    assert lost.startswith(b"--- console lost: ")
    assert find_capture(str(terminal.path)) == capture == find_capture(terminal.device)


def test_a_pseudo_terminal_without_a_link_does_not_come_back_and_its_capture_ends(
    start: Start, terminal: Terminal, log: Path
) -> None:
    capture = start(terminal.device)
    terminal.unplug()
    until(lambda: not is_capturing(capture), "the end of the capture")
    assert texts(log)[-1].startswith(b"--- capture ended: ")
    assert stop_capture(capture) == "gone"


def test_rotation_loses_nothing_and_cuts_no_record(start: Start, terminal: Terminal, log: Path) -> None:
    capture = start(size=50_000, keep=100)
    lines = [b"line %06d" % number for number in range(20_000)]
    terminal.say(b"\n".join(lines) + b"\n")
    logged(log, lines[-1] + b"\n")
    stop_capture(capture)
    parts = sorted(log.parent.glob("console.log.*"), key=lambda part: -int(part.suffix[1:]))
    assert len(parts) > 10
    assert all(part.stat().st_size <= 50_000 for part in [*parts, log])
    assert [text for part in [*parts, log] for text in texts(part)] == lines


def test_clients_get_the_bytes_as_they_are_from_the_moment_they_connect(
    start: Start, terminal: Terminal, log: Path
) -> None:
    capture = start()
    terminal.say(b"early\r\n")
    logged(log, b"early\n")
    with connected(capture) as first, connected(capture) as second:
        terminal.say(b"\x1b[0mraw \xff\r\n")
        assert received(first, 11) == received(second, 11) == b"\x1b[0mraw \xff\r\n"


def test_what_a_client_sends_reaches_the_board_whole_even_when_the_port_is_full(
    start: Start, terminal: Terminal
) -> None:
    capture = start()
    sent = bytes(range(256)) * 4000
    with connected(capture) as client:
        sender = threading.Thread(target=client.sendall, args=(sent,))
        sender.start()
        assert terminal.hear(len(sent)) == sent
        sender.join()


def test_a_board_that_takes_no_bytes_holds_its_client_back_and_costs_no_memory(
    start: Start, terminal: Terminal, log: Path
) -> None:
    capture = start()
    with connected(capture) as client:
        client.setblocking(False)
        sent = 0
        quiet = time.monotonic()
        while time.monotonic() < quiet + 0.5 and sent < 4_000_000:  # that no more fits shows in nothing else
            try:
                sent += client.send(bytes(65536))
                quiet = time.monotonic()
            except BlockingIOError:
                time.sleep(0.005)
        assert sent < 2_000_000
        terminal.say(b"still captured\n")
        logged(log, b"still captured\n")
        assert len(terminal.hear(sent)) == sent


def test_a_client_that_does_not_read_is_dropped_and_nobody_else_suffers(
    start: Start, terminal: Terminal, log: Path
) -> None:
    capture = start()
    with connected(capture) as idle, connected(capture) as reader:
        for _ in range(200):
            terminal.say(b"x" * 49_999 + b"\n")
            assert len(received(reader, 50_000)) == 50_000
        terminal.say(b"end\n")
        assert received(reader, 4) == b"end\n"
        logged(log, b" end\n")
        assert len(received(idle, 10_000_000)) < 6_000_000
    assert memory(capture) < 60_000_000


def test_a_line_through_a_capture_reads_and_writes(start: Start, terminal: Terminal) -> None:
    start()
    with open_line(Console(port=terminal.device)) as line:
        assert line.read(0.0) == b""
        line.write(b"uname\n")
        assert terminal.hear(6) == b"uname\n"
        terminal.say(b"Linux\r\n")
        assert came(line, 7) == b"Linux\r\n"


def test_a_line_learns_that_the_console_was_lost(start: Start, terminal: Terminal) -> None:
    start()
    with open_line(Console(port=str(terminal.path))) as line:
        terminal.unplug()
        with pytest.raises(TargetError, match=r"usb-board-0 is lost: it hung up"):
            line.read(20.0)


def test_a_line_that_is_opened_while_the_port_is_away_is_lost_at_once(
    start: Start, terminal: Terminal, log: Path
) -> None:
    start()
    terminal.unplug()
    logged(log, b"--- console lost: ")
    with open_line(Console(port=str(terminal.path))) as line, pytest.raises(TargetError, match="is lost: it hung up"):
        line.read(20.0)


def test_a_log_that_is_removed_is_begun_again_and_without_its_folder_the_capture_ends(
    start: Start, terminal: Terminal, log: Path
) -> None:
    capture = start()
    log.unlink()
    until(log.exists, "a new log")
    terminal.say(b"new\n")
    logged(log, b"new\n")
    shutil.rmtree(log.parent)
    until(lambda: not is_capturing(capture), "the end of the capture")


def test_a_line_learns_that_its_capture_was_killed(start: Start, terminal: Terminal) -> None:
    capture = start()
    with open_line(Console(port=str(terminal.path))) as line:
        os.kill(capture.process.pid, signal.SIGKILL)
        until(lambda: not is_capturing(capture), "the end of the capture")
        with pytest.raises(TargetError, match=rf"is lost: its capture \(pid {capture.process.pid}\) has ended"):
            line.read(20.0)


def test_teardown_says_that_a_capture_was_killed_and_only_once(start: Start, terminal: Terminal) -> None:
    capture = start()
    port = str(terminal.path)
    os.kill(capture.process.pid, signal.SIGKILL)
    until(lambda: not is_capturing(capture), "the end of the capture")
    assert stop_capture_of(port) == "had been killed: the rest of console.log is missing"
    assert stop_capture_of(port) == "not captured"


def test_a_capture_ends_in_order_from_its_first_moment(start: Start, terminal: Terminal) -> None:
    for _ in range(20):
        start()
        assert stop_capture_of(str(terminal.path)) == "stopped"
        assert stop_capture_of(str(terminal.path)) == "not captured"


def test_one_client_at_a_time_writes(start: Start, terminal: Terminal) -> None:
    start()
    console = Console(port=str(terminal.path))
    busy = rf"is in use: this process \(pid {os.getpid()}\) writes to it"
    with open_line(console), pytest.raises(TargetError, match=busy), open_line(console, wait=0.0):
        pass
    with open_line(console, wait=0.0) as line:
        line.write(b"free again")
    assert terminal.hear(10) == b"free again"


def test_a_second_capture_is_refused_and_told_who_has_the_port(start: Start, terminal: Terminal, log: Path) -> None:
    capture = start()
    with pytest.raises(BoardError, match=rf"captured by run {re.escape(str(log.parent))}, pid {capture.process.pid};"):
        start(terminal.device)
    assert is_capturing(capture)


def test_a_capture_whose_port_is_away_still_has_it(start: Start, terminal: Terminal, log: Path) -> None:
    start()
    terminal.unplug()
    logged(log, b"--- console lost: ")
    with pytest.raises(BoardError, match="captured by run"):
        start()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_capture_that_was_ended_leaves_the_port_free(
    start: Start, terminal: Terminal, log: Path, number: signal.Signals
) -> None:
    capture = start()
    terminal.say(b"first")
    logged(log, b"first")
    os.kill(capture.process.pid, number)
    until(lambda: not is_capturing(capture), "the end of the capture")
    assert find_capture(str(terminal.path)) is None
    assert stop_capture(capture) == "gone"
    start()
    terminal.say(b"second\n")
    logged(log, b"second\n")
    assert texts(log) == [b"first", b"second"]


def test_a_capture_that_ends_completes_its_log_and_leaves_no_file(
    start: Start, terminal: Terminal, log: Path, private: Path
) -> None:
    capture = start()
    assert stat.S_IMODE(Path(capture.socket).stat().st_mode) == 0o600
    terminal.say(b"login: ")
    logged(log, b"login: ")
    assert stop_capture(capture) == "stopped"
    assert [path.name for path in (private / f"roboticks-{os.getuid()}").iterdir()] == []
    assert texts(log) == [b"login: "]
    assert stop_capture(capture) == "gone"


def test_a_capture_that_does_not_react_is_killed(start: Start, private: Path) -> None:
    capture = start()
    os.kill(capture.process.pid, signal.SIGSTOP)
    assert stop_capture(capture, grace=0.05) == "killed"
    assert not is_capturing(capture)
    assert [path.name for path in (private / f"roboticks-{os.getuid()}").iterdir()] == []


def test_a_capture_outlives_whoever_started_it_and_its_terminal(start: Start) -> None:
    capture = start()
    assert os.getsid(capture.process.pid) == capture.process.pid


def test_a_port_that_cannot_be_opened_is_an_error_of_the_start_and_leaves_no_process(
    private: Path, tmp_path: Path, log: Path
) -> None:
    with pytest.raises(BoardError, match="nowhere does not exist"):
        start_capture(Console(port=str(tmp_path / "nowhere")), log=log)
    assert not log.exists()


def test_the_capture_starts_without_libraries_that_it_does_not_need() -> None:
    import subprocess
    import sys

    program = "import sys, roboticks_tasks.serial_console.capture; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"msgspec", "asyncio", "logging", "subprocess", "typing_extensions"} & set(done.stdout.split())


def test_a_full_disk_loses_records_never_the_capture_and_the_log_says_how_many(
    start: Start, terminal: Terminal, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    with open_small_disk(tmp_path / "disk", size="1m") as disk:
        if disk is None:
            pytest.skip("this machine allows no mounts")
        path = disk.folder / "console.log"
        capture = start(log=path)
        terminal.say(b"before\nhalf a line")
        until(lambda: path.exists() and b"half a line" in path.read_bytes(), "the line is in the log")
        disk.fill()
        flood = b"lost\n" * 3_000
        with connected(capture) as client:
            terminal.say(flood)
            assert received(client, len(flood)) == flood
        disk.empty()
        terminal.say(b"after\n")
        until(lambda: b" after\n" in path.read_bytes(), "what is said afterwards is in the log")
        first, half, *filled, note, after, nothing = path.read_bytes().split(b"\n")
        assert first.endswith(b" before")
        assert b" half a line" in half
        assert all(line.endswith(b" lost") for line in filled[:-1])  # of the last one only a part had room
        assert RECORD.fullmatch(after)
        match = RECORD.fullmatch(note)
        assert match
        assert re.fullmatch(rb"--- \d{5,6} bytes lost: No space left on device", match[3])
        assert nothing == b""
