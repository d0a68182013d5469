"""What is wrong with a bench ends a run as a bench error: one sentence that says what, where, and what to do."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from roboticks_tasks.profiles.values import Console
from roboticks_tasks.serial_console.port import open_port
from tests.contract.pty_board import PtyBoard, running_board
from tests.contract.sshd import ALIAS, Sshd, free_port, make_key, running_sshd
from tests.e2e.bench import Bench
from tests.e2e.board_profiles import manager

NO_PLATFORM = 'backend = "http://127.0.0.1:9"\n'


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    with running_sshd(tmp_path / "sshd") as one:
        yield one


@pytest.fixture
def pty(tmp_path: Path) -> Iterator[PtyBoard]:
    with running_board(tmp_path / "pty") as one:
        yield one


def refusal(bench: Bench, text: str, *, code: int = 22) -> str:
    """Run the profile and return the reason why it was a bench error."""
    bench.profile("bad", NO_PLATFORM + text)
    done = bench.run("hil-test", "--profile", "bad")
    result = bench.result(bench.latest_of("bad"))
    assert (done.code, result["verdict"]) == (code, "bench-error"), result["reason"]
    reason: str = result["reason"]
    assert "; " in reason, "it says what to do"
    assert "\n" not in reason
    return reason


def test_a_host_that_does_not_answer(bench: Bench, sshd: Sshd, tmp_path: Path) -> None:
    port = free_port()
    reason = refusal(bench, sshd.profile_text(port=port) + manager("simulated", tmp_path / "root"))
    assert f"127.0.0.1:{port}) refuses connections" in reason
    broken = [step for step in bench.result(bench.latest_of("bad"))["steps"] if step["outcome"] == "failed"]
    assert [step["name"] for step in broken] == ["connect", "teardown"]


def test_a_host_that_has_no_address(bench: Bench, sshd: Sshd, tmp_path: Path) -> None:
    text = sshd.profile_text().replace('host = "127.0.0.1"', 'host = "no-such-board.invalid"')
    assert "no-such-board.invalid" in refusal(bench, text + manager("simulated", tmp_path / "root"))


def test_a_key_that_the_board_refuses(bench: Bench, sshd: Sshd, tmp_path: Path) -> None:
    make_key(tmp_path / "other")
    text = sshd.profile_text(identity_file=str(tmp_path / "other"))
    reason = refusal(bench, text + manager("simulated", tmp_path / "root"), code=23)
    assert sshd.user in reason
    assert "key" in reason


def test_a_board_whose_host_key_nobody_has_pinned(bench: Bench, sshd: Sshd, tmp_path: Path) -> None:
    sshd.known_hosts.write_text("")
    reason = refusal(bench, sshd.profile_text() + manager("simulated", tmp_path / "root"), code=23)
    assert f"roboticks-tasks enroll --profile bad --board {ALIAS}" in reason


def test_a_board_with_another_host_key(bench: Bench, sshd: Sshd, tmp_path: Path) -> None:
    make_key(tmp_path / "other")
    other = " ".join((tmp_path / "other.pub").read_text().split()[:2])
    sshd.known_hosts.write_text(f"{ALIAS} {other}\n")
    reason = refusal(bench, sshd.profile_text() + manager("simulated", tmp_path / "root"), code=23)
    assert "THE HOST KEY OF board-1 HAS CHANGED" in reason
    assert "--replace" in reason


def test_a_board_that_says_it_is_another_one(bench: Bench, sshd: Sshd, tmp_path: Path) -> None:
    text = sshd.profile_text() + 'identity = { command = ["echo", "two"], equals = "one" }\n'
    reason = refusal(bench, text + manager("simulated", tmp_path / "root"))
    assert "two" in reason
    assert "one" in reason
    assert not (tmp_path / "root").exists(), "nothing was written to it"


def test_a_board_without_setsid(bench: Bench, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for folder in ("/usr/bin", "/bin"):
        for path in Path(folder).iterdir():
            if path.name != "setsid" and not (programs / path.name).exists():
                (programs / path.name).symlink_to(path)
    command = f'ForceCommand env PATH={programs} sh -c "$SSH_ORIGINAL_COMMAND"'
    with running_sshd(tmp_path / "sshd", more=command) as sshd:
        reason = refusal(bench, sshd.profile_text() + manager("simulated", tmp_path / "root"), code=11)
    assert "setsid" in reason


def test_a_board_whose_disk_takes_nothing(bench: Bench, sshd: Sshd) -> None:
    reason = refusal(bench, sshd.profile_text() + manager("simulated", Path("/proc/nowhere")), code=10)
    assert "/proc/nowhere" in reason


def test_a_device_manager_for_another_machine(bench: Bench, sshd: Sshd, tmp_path: Path) -> None:
    machine = 0x28 if os.uname().machine != "armv7l" else 0xF3
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 2, machine)
    (tmp_path / "binary").write_bytes(header + bytes(100))
    more = f'source = {{ path = "{tmp_path / "binary"}" }}'
    reason = refusal(bench, sshd.profile_text() + manager("native", tmp_path / "root", more=more), code=10)
    assert os.uname().machine in reason


def serial(pty: PtyBoard, *more: str) -> str:
    """Return a profile of the board on its console."""
    lines = ["[target]", 'kind = "serial"', "connect_timeout = 3", "[[boards]]", 'id = "bad-1"', *more]
    return "\n".join([*lines, ""])


def test_a_serial_port_that_somebody_else_has(bench: Bench, pty: PtyBoard, tmp_path: Path) -> None:
    text = serial(pty, f'console = {{ port = "{pty.port}" }}') + manager("simulated", tmp_path / "root")
    port = open_port(Console(port=pty.port))
    try:
        reason = refusal(bench, text)
    finally:
        port.close()
    assert pty.port in reason
    assert f"pid {os.getpid()}" in reason


def test_a_serial_port_that_is_not_there(bench: Bench, pty: PtyBoard, tmp_path: Path) -> None:
    text = serial(pty, f'console = {{ port = "{tmp_path / "nowhere"}" }}') + manager("simulated", tmp_path / "root")
    assert str(tmp_path / "nowhere") in refusal(bench, text)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ('["sh", "-c", "echo no such hub >&2; exit 1"]', "no such hub"),
        ('["no-such-tool"]', "no-such-tool"),
    ],
)
def test_a_power_command_that_fails(bench: Bench, pty: PtyBoard, tmp_path: Path, command: str, words: str) -> None:
    power = f"power = {{ on = {command}, off = {command} }}"
    text = serial(pty, f'console = {{ port = "{pty.port}" }}', power) + manager("simulated", tmp_path / "root")
    assert words in refusal(bench, text)


def test_a_console_at_the_wrong_speed(bench: Bench, tmp_path: Path) -> None:
    with running_board(tmp_path / "wrong", wrong_speed=True) as pty:
        console = f'console = {{ port = "{pty.port}", baudrate = 9600 }}'
        text = serial(pty, console).replace("connect_timeout = 3", "connect_timeout = 1")
        reason = refusal(bench, text + manager("simulated", tmp_path / "root"))
    assert f"{pty.port} at 9600 baud is unreadable" in reason
    assert "console.baudrate" in reason
