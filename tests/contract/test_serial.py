"""A target on a serial console: every way to a shell, and everything that can happen to the line meanwhile."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from roboticks_tasks.errors import BoardError, ConfigError, TargetError
from roboticks_tasks.profiles import Profile
from roboticks_tasks.profiles.values import Console, Login, Power
from roboticks_tasks.serial_console.captures import start_capture, stop_capture
from roboticks_tasks.serial_console.line import open_line
from roboticks_tasks.targets import Target
from roboticks_tasks.targets.serial import exchange, login, open_serial, transfer
from roboticks_tasks.targets.serial.loop import start_line
from tests.conditions import until
from tests.contract.pty_board import PtyBoard, profile_of, running_board
from tests.parts import require

PASSWORD = "correct horse"
SECRET = "rbtk_secret_0123456789"
BYTES = bytes(range(256)) * 400


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the boards of a test a folder for temporary files of their own."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.fixture(autouse=True)
def _own_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporary: Path) -> None:
    monkeypatch.setenv("ROBOTICKS_BENCH", str(tmp_path / "bench"))
    (tmp_path / "bench").mkdir()


@pytest.fixture
def board(tmp_path: Path) -> Iterator[PtyBoard]:
    with running_board(tmp_path / "board") as board:
        yield board


@pytest.fixture
def target(board: PtyBoard) -> Iterator[Target]:
    with open_serial(profile_of(board)) as target:
        yield target


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take silence for an answer sooner than real boards allow: what is sent again too early does no harm."""
    monkeypatch.setattr(login, "BOOT_PAUSE", 0.3)
    monkeypatch.setattr(login, "LOGIN_PAUSE", 1.0)
    monkeypatch.setattr(exchange, "ANSWER", 0.5)
    monkeypatch.setattr(transfer, "ANSWER", 0.5)


def answers(target: Target) -> bool:
    return target.run(["echo", "here"]).text == "here"


def slow(folder: Path, program: str, *, begin: float, end: float) -> dict[str, str]:
    """Return an environment in which `program` takes some seconds to begin, and some to tell that it has ended."""
    (folder / "bin").mkdir()
    wrapper = folder / "bin" / program
    wrapper.write_text(f'#!/bin/sh\nsleep {begin}\n{shutil.which(program)} "$@"\ncode=$?\nsleep {end}\nexit $code\n')
    wrapper.chmod(0o755)
    return {"PATH": f"{folder}/bin:{os.environ['PATH']}"}


def until_at_login(board: PtyBoard) -> None:
    until(lambda: board.phase == "name", "the board asks for a login")


# --- the way to a shell -----------------------------------------------------------------------------------------------


def test_a_console_without_a_password_is_logged_in_to(board: PtyBoard) -> None:
    with open_serial(profile_of(board)) as target:
        assert answers(target)
        assert board.phase == "shell"
    until_at_login(board)


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[PtyBoard]:
    with running_board(tmp_path / "board", password=PASSWORD) as board:
        yield board


def with_password(board: PtyBoard) -> Profile:
    return profile_of(board, login=Login(password_variable="CONSOLE_PASSWORD"))


def test_the_password_is_taken_from_its_variable_and_shows_nowhere(
    locked: PtyBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CONSOLE_PASSWORD", PASSWORD)
    caplog.set_level("DEBUG")
    capture = start_capture(Console(port=locked.port), log=tmp_path / "console.log")
    try:
        with open_serial(with_password(locked)) as target:
            assert answers(target)
            with pytest.raises(TargetError) as caught:
                target.run(["sleep", "60"], timeout=0.1)
    finally:
        stop_capture(capture)
    assert PASSWORD.encode() in bytes(locked.input)
    for text in (str(caught.value), caplog.text, (tmp_path / "console.log").read_text(errors="replace")):
        assert PASSWORD not in text


def test_a_wrong_password_is_an_error_that_does_not_hold_it(locked: PtyBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSOLE_PASSWORD", "battery staple")
    with pytest.raises(BoardError, match="refuses the login of 'root'") as caught, open_serial(with_password(locked)):
        pass
    assert "CONSOLE_PASSWORD" in caught.value.remedy
    assert "battery" not in str(caught.value)
    assert bytes(locked.input).count(b"battery staple") == 1


def test_a_password_that_is_asked_for_and_not_set_is_said(locked: PtyBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONSOLE_PASSWORD", raising=False)
    wanted = "asks for the password of 'root'; set CONSOLE_PASSWORD"
    with pytest.raises(BoardError, match=wanted), open_serial(with_password(locked)):
        pass
    with pytest.raises(BoardError, match=r"target\.login\.password_variable"), open_serial(profile_of(locked)):
        pass


def test_a_shell_that_is_there_is_used_and_left_as_it_was(tmp_path: Path) -> None:
    with running_board(tmp_path / "board", autologin=True) as board:
        until(lambda: board.phase == "shell", "the shell is there")
        before = settings(board)
        with open_serial(profile_of(board)) as target:
            assert answers(target)
            assert settings(board) != before
        until(lambda: settings(board) == before, "the terminal is as it was")
        assert board.phase == "shell"
        with open_serial(profile_of(board)) as target:
            assert answers(target)


def settings(board: PtyBoard) -> bytes:
    return subprocess.run(["stty", "-g", "-F", board.terminal], check=True, capture_output=True).stdout


@pytest.mark.parametrize("controlling", [True, False], ids=["terminal", "no controlling terminal"])
@pytest.mark.parametrize("shell", ["bash -i", "busybox ash -i", "dash -i"])
def test_any_shell_may_be_the_login_shell(tmp_path: Path, shell: str, controlling: bool) -> None:
    # A shell that init starts on /dev/console has no controlling terminal, hence no job control.
    require(shell.split(maxsplit=1)[0])
    with (
        running_board(tmp_path / "board", shell=shell.split(), controlling_terminal=controlling) as board,
        open_serial(profile_of(board)) as target,
    ):
        assert target.run(["sh", "-c", "cat; echo err >&2; exit 7"], stdin=BYTES) == (7, BYTES, b"err\n")
        with pytest.raises(TargetError, match="did not end"):
            target.run(["sleep", "60"], timeout=0.1)
        assert answers(target)


@pytest.mark.usefixtures("hurried")
def test_what_somebody_has_half_typed_is_not_executed(tmp_path: Path, temporary: Path) -> None:
    with running_board(tmp_path / "board", autologin=True) as board:
        until(lambda: board.phase == "shell", "the shell is there")
        board.type_locally(f"touch {temporary}/executed")
        with open_serial(profile_of(board)) as target:
            assert answers(target)
    assert not (temporary / "executed").exists()


@pytest.mark.usefixtures("hurried")
def test_a_program_that_somebody_left_running_is_interrupted(tmp_path: Path) -> None:
    with running_board(tmp_path / "board", autologin=True) as board:
        until(lambda: board.phase == "shell", "the shell is there")
        board.type_locally("cat >/dev/null\n")
        until(lambda: len(board.processes) > 1, "cat runs")
        with open_serial(profile_of(board, connect_timeout=20)) as target:
            assert answers(target)


def test_a_board_that_is_still_booting_is_waited_for(tmp_path: Path) -> None:
    log = [f"[    {number}.0] unit {number}" for number in range(20)]
    with running_board(tmp_path / "board", boot_log=log, boot_interval=0.1) as board:
        assert board.phase == "boot"
        with open_serial(profile_of(board, power=Power(boot_timeout=30), connect_timeout=1)) as target:
            assert answers(target)


def test_no_key_is_pressed_while_a_boot_loader_counts_down(tmp_path: Path) -> None:
    with running_board(tmp_path / "board", powered=False, autoboot_delay=1.0) as board:
        board.power("on")
        with open_serial(profile_of(board)) as target:
            assert answers(target)
        assert board.uboot_stops == 0


def test_a_boot_loader_is_no_shell(tmp_path: Path) -> None:
    with running_board(tmp_path / "board", stays_in_uboot=True) as board:
        until(lambda: board.phase == "uboot", "the boot loader waits")
        wanted = r"leads to no shell: it shows '=>'; boot it"
        with pytest.raises(BoardError, match=wanted), open_serial(profile_of(board)):
            pass


def test_a_firmware_is_no_shell(tmp_path: Path) -> None:
    with (
        running_board(tmp_path / "board", firmware="MCU-001", heartbeat=0.05) as board,
        pytest.raises(BoardError, match="leads to no shell: it shows 'heartbeat"),
        open_serial(profile_of(board, connect_timeout=1)),
    ):
        pass


def test_a_silent_console_is_said_to_be_silent(tmp_path: Path) -> None:
    with (
        running_board(tmp_path / "board", powered=False) as board,
        pytest.raises(BoardError, match=r"was silent for 0\.5 s; is the board on"),
        open_serial(profile_of(board, connect_timeout=0.5)),
    ):
        pass


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("begin", ["on", "off"])
def test_a_wrong_baud_rate_is_said_to_be_one(tmp_path: Path, begin: str) -> None:
    with running_board(tmp_path / "board", wrong_speed=True, boot_interval=0.1, powered=begin == "on") as board:
        wanted = rf"{board.port} at 115200 baud is unreadable \(.*\); set `console.baudrate` to the board's"
        if begin == "on":
            until_at_login(board)
        board.power("on")
        with pytest.raises(BoardError, match=wanted) as caught, open_serial(profile_of(board, connect_timeout=1)):
            pass
    assert str(caught.value).isprintable()


def test_a_board_without_a_console_is_an_error_of_the_profile(board: PtyBoard) -> None:
    profile = profile_of(board)
    bare = msgspec.structs.replace(profile, boards=(msgspec.structs.replace(profile.boards[0], console=None),))
    with pytest.raises(ConfigError, match="'board-1' has no console"), open_serial(bare):
        pass


def test_a_console_that_echoes_whatever_is_set_gets_no_secret(tmp_path: Path) -> None:
    with (
        running_board(tmp_path / "board", echoes=True) as board,
        pytest.raises(BoardError, match="sends back what is sent to it"),
        open_serial(profile_of(board)),
    ):
        pass


def test_a_console_that_echoes_gets_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSOLE_PASSWORD", PASSWORD)
    with running_board(tmp_path / "board", echoes=True, password=PASSWORD) as board:
        with pytest.raises(BoardError, match="sends back what"), open_serial(with_password(board)):
            pass
        assert PASSWORD.encode() not in bytes(board.input)


def spellings(secret: str) -> set[bytes]:
    """Return how a secret may show: as it is, and in base64 wherever in a stream it begins."""
    shifted = [base64.b64encode(b"x" * shift + secret.encode())[4:-4] for shift in range(3)]
    return {secret.encode(), *shifted}


def test_what_a_command_is_given_and_gives_shows_nowhere(
    board: PtyBoard, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    log = tmp_path / "console.log"
    capture = start_capture(Console(port=board.port), log=log)
    try:
        with open_serial(profile_of(board)) as target:
            for length in (1, 1000):
                given = (SECRET * length).encode()
                assert target.run(["cat"], stdin=given).stdout == given
                board.print_noise("\r\n[   12.3] usb 1-1: new device\r\n")
                with pytest.raises(TargetError) as caught:
                    target.run(["sleep", "60"], stdin=given, timeout=0.1)
    finally:
        stop_capture(capture)
    shown = log.read_bytes()
    for text in (shown, str(caught.value).encode(), caplog.text.encode()):
        assert not [spelling for spelling in spellings(SECRET) if spelling in text]
    assert shown.count(b"usb 1-1: new device\n") == 2


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("shell", ["bash -i", "dash -i"])
def test_a_shell_that_has_taken_the_place_of_the_loop_echoes_no_secret(
    tmp_path: Path, temporary: Path, shell: str
) -> None:
    require(shell.split(maxsplit=1)[0])
    with (
        running_board(tmp_path / "board", shell=shell.split()) as board,
        open_serial(profile_of(board, connect_timeout=2)) as target,
    ):
        (pid,) = (path.read_text() for path in temporary.glob("roboticks-serial.*/pid"))
        os.kill(int(pid), signal.SIGKILL)
        with suppress(TargetError):
            target.run(["true"], stdin=SECRET.encode())
        assert not [spelling for spelling in spellings(SECRET) if spelling in board.output]
        assert target.run(["cat"], stdin=SECRET.encode()).text == SECRET


# --- the line ---------------------------------------------------------------------------------------------------------


def test_kernel_messages_in_the_middle_of_much_output_damage_nothing(board: PtyBoard, target: Target) -> None:
    done = threading.Event()
    printed: list[int] = []

    def chatter() -> None:
        while not done.wait(0.01):
            board.print_noise(f"\r\n[   12.{len(printed)}] usb 1-1: new device <0> = login shell\r\n")
            printed.append(1)

    thread = threading.Thread(target=chatter)
    thread.start()
    try:
        content = os.urandom(300_000)
        completed = target.run(["cat"], stdin=content, timeout=60)
    finally:
        done.set()
        thread.join()
    assert hashlib.sha256(completed.stdout).digest() == hashlib.sha256(content).digest()
    assert len(printed) > 3


@pytest.mark.parametrize("drop", [False, True], ids=["changed", "dropped"])
@pytest.mark.parametrize("direction", ["to_board", "from_board"])
def test_damaged_bytes_travel_again_and_the_command_runs_once(
    board: PtyBoard, target: Target, direction: str, drop: bool, temporary: Path
) -> None:
    board.damage(direction, [10, 700, 5_000, 50_000, 50_001, 90_000], drop=drop)
    script = f"echo once >>{temporary}/runs; cat"
    assert target.run(["sh", "-c", script], stdin=BYTES, timeout=60).stdout == BYTES
    assert (temporary / "runs").read_text() == "once\n"


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("direction", ["to_board", "from_board"])
def test_a_short_command_survives_a_lost_byte_wherever_it_was(
    board: PtyBoard, target: Target, direction: str, temporary: Path
) -> None:
    for count, position in enumerate(range(0, 64, 4), 1):
        board.damage(direction, [position], drop=True)
        assert target.run(["sh", "-c", f"echo once >>{temporary}/runs; exit 7"], timeout=30) == (7, b"", b"")
        assert (temporary / "runs").read_text() == "once\n" * count


def test_nothing_is_lost_at_the_speed_of_a_real_line(tmp_path: Path) -> None:
    with running_board(tmp_path / "board", baud_limit=921_600) as board, open_serial(profile_of(board)) as target:
        assert target.run(["cat"], stdin=BYTES[:30_000], timeout=60).stdout == BYTES[:30_000]


@pytest.mark.usefixtures("hurried")
def test_a_board_that_loses_what_does_not_fit_in_its_terminal_gets_everything_all_the_same(tmp_path: Path) -> None:
    content = os.urandom(50_000)
    options = {"baud_limit": 921_600, "overflows": True, "environment": slow(tmp_path, "head", begin=0.1, end=0)}
    with running_board(tmp_path / "board", **options) as board, open_serial(profile_of(board)) as target:
        assert target.run(["cat"], stdin=content, timeout=60).stdout == content
        assert board.lost


def test_what_a_human_types_between_commands_does_no_harm(board: PtyBoard, target: Target) -> None:
    for text in ("ls -l\n", "half a line", "\n\n", "$(reboot) `x` \\"):
        board.type_locally(text)
        assert answers(target)


def test_a_command_can_be_interrupted(target: Target) -> None:
    ignored = target.run(["grep", "SigIgn", "/proc/self/status"]).text.split()[1]
    assert not int(ignored, 16) & (1 << signal.SIGINT - 1 | 1 << signal.SIGQUIT - 1 | 1 << signal.SIGTERM - 1)


def test_a_capture_of_the_console_carries_the_commands(board: PtyBoard, tmp_path: Path) -> None:
    capture = start_capture(Console(port=board.port), log=tmp_path / "console.log")
    try:
        with open_serial(profile_of(board)) as target:
            assert target.run(["cat"], stdin=BYTES).stdout == BYTES
    finally:
        stop_capture(capture)
    assert "board login:" in (tmp_path / "console.log").read_text()


@pytest.mark.parametrize("shell", ["dash -i", "busybox ash -i"])
def test_a_board_without_base64_uses_what_it_has(tmp_path: Path, shell: str) -> None:
    require(shell.split(maxsplit=1)[0])
    options = {"without": ["base64"], "shell": shell.split()}
    with running_board(tmp_path / "board", **options) as board, open_serial(profile_of(board)) as target:
        assert target.run(["cat"], stdin=BYTES, timeout=60).stdout == BYTES


def test_a_program_that_the_board_lacks_is_named(tmp_path: Path) -> None:
    with (
        running_board(tmp_path / "board", without=["base64", "od"]) as board,
        pytest.raises(BoardError, match="lacks base64; install"),
        open_serial(profile_of(board)),
    ):
        pass


def test_a_board_without_cksum_uses_another_checksum(tmp_path: Path) -> None:
    with running_board(tmp_path / "board", without=["cksum"]) as board, open_serial(profile_of(board)) as target:
        assert target.run(["sh", "-c", "cat; exit 3"], stdin=BYTES) == (3, BYTES, b"")


# --- the board goes away ----------------------------------------------------------------------------------------------


@contextmanager
def when_it_runs(path: Path, action: object) -> Iterator[None]:
    """Do something to the board once the command has written its file."""

    def act() -> None:
        until(path.exists, "the command runs")
        action()  # type: ignore[operator]

    thread = threading.Thread(target=act)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def twice(temporary: Path) -> list[str]:
    """Return a command that hangs when it is run for the first time."""
    script = f"[ -e {temporary}/first ] && {{ echo again; exit; }}; touch {temporary}/first; sleep 60"
    return ["sh", "-c", script]


def test_a_reboot_in_the_middle_is_said_at_once(board: PtyBoard, target: Target, temporary: Path) -> None:
    with (
        when_it_runs(temporary / "first", board.reboot),
        pytest.raises(TargetError, match=r"was lost: the board reboots: .*U-Boot.*set `target.reboot_timeout`"),
    ):
        target.run(twice(temporary), repeatable=True, timeout=60)
    assert answers(target)
    assert board.boots == 2


def test_a_login_prompt_in_the_middle_is_a_reboot(tmp_path: Path, temporary: Path) -> None:
    with (
        running_board(tmp_path / "board", boot_log=()) as board,
        open_serial(profile_of(board, reboot_timeout=20)) as target,
        when_it_runs(temporary / "first", board.reboot),
        pytest.raises(TargetError, match=r"was lost: the board has rebooted: its console shows 'board login:'"),
    ):
        target.run(twice(temporary), timeout=60)


def test_a_repeatable_command_is_run_again_after_a_reboot(board: PtyBoard, temporary: Path) -> None:
    with open_serial(profile_of(board, reboot_timeout=20)) as target, when_it_runs(temporary / "first", board.reboot):
        assert target.run(twice(temporary), repeatable=True, timeout=60).text == "again"
        assert answers(target)
    until_at_login(board)


def test_a_cable_that_is_pulled_is_a_lost_console(board: PtyBoard, target: Target, temporary: Path) -> None:
    with (
        when_it_runs(temporary / "first", board.unplug),
        pytest.raises(TargetError, match=r"was lost: the console .* is lost"),
    ):
        target.run(twice(temporary), timeout=60)
    board.plug()
    assert answers(target)


def test_a_repeatable_command_is_run_again_when_the_cable_is_back(
    board: PtyBoard, target: Target, temporary: Path
) -> None:
    def replug() -> None:
        board.unplug()
        board.plug()

    with when_it_runs(temporary / "first", replug):
        assert target.run(twice(temporary), repeatable=True, timeout=60).text == "again"


def test_a_console_that_does_not_come_back_is_an_error(board: PtyBoard) -> None:
    with open_serial(profile_of(board, connect_timeout=1)) as target:
        board.unplug()
        for _ in range(2):
            with pytest.raises(TargetError):
                target.run(["true"], repeatable=True)


@pytest.mark.usefixtures("hurried")
def test_a_loop_that_was_killed_is_started_again(board: PtyBoard, temporary: Path) -> None:
    with open_serial(profile_of(board, connect_timeout=2)) as target:
        (pid,) = (path.read_text() for path in temporary.glob("roboticks-serial.*/pid"))
        os.kill(int(pid), signal.SIGKILL)
        assert target.run(["echo", "here"], repeatable=True).text == "here"
    until(lambda: not list(temporary.iterdir()), "the killed loop's folder is gone as well")


# --- what is left behind ----------------------------------------------------------------------------------------------


def test_nothing_is_left_on_the_board(board: PtyBoard, temporary: Path) -> None:
    with open_serial(profile_of(board)) as target:
        target.run(["cat"], stdin=BYTES)
        with pytest.raises(TargetError):
            target.run(["sh", "-c", "sleep 60 & wait"], stdin=BYTES, timeout=0.2)
        assert len(list(temporary.iterdir())) == 1
    until(lambda: not list(temporary.iterdir()), "the folder is gone")
    until_at_login(board)
    until(lambda: not board.processes, "no process is left")


def test_a_command_that_was_stopped_before_it_began_never_begins(tmp_path: Path, temporary: Path) -> None:
    with running_board(tmp_path / "board", environment=slow(tmp_path, "setsid", begin=0.5, end=0.3)) as board:
        with open_serial(profile_of(board)) as target:
            with pytest.raises(TargetError, match="did not end"):
                target.run(["sh", "-c", f"touch {temporary}/begun; sleep 60"], timeout=0.1)
            assert answers(target)
        until(lambda: not board.processes, "no process is left")
    assert not list(temporary.iterdir())


def test_a_command_that_is_ended_writes_nothing_into_a_folder_that_is_gone(tmp_path: Path, temporary: Path) -> None:
    options = {"environment": slow(tmp_path, "setsid", begin=0.2, end=0.5), "autologin": True}
    with running_board(tmp_path / "board", **options) as board:
        until(lambda: board.phase == "shell", "the shell is there")
        with open_serial(profile_of(board)) as target, pytest.raises(TargetError, match="did not end"):
            target.run(twice(temporary), timeout=1)
        until(lambda: len(board.processes) == 1, "only the login shell is left")
        assert not list(temporary.glob("roboticks-serial.*"))
        assert not re.search(rb"nonexistent|No such file", board.output)


KILLED = """
import msgspec, pathlib, sys
from roboticks_tasks.profiles import Profile
from roboticks_tasks.targets.serial import open_serial
with open_serial(msgspec.json.decode(sys.argv[1], type=Profile)) as target:
    target.run(["sh", "-c", "touch $0; cat >/dev/null; exec sleep 60", sys.argv[2]], stdin=bytes(int(sys.argv[3])))
"""


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("controlling", [True, False], ids=["terminal", "no controlling terminal"])
@pytest.mark.parametrize("when", ["in a command", "in an upload"])
def test_what_a_killed_run_left_is_swept_by_the_next_one(
    tmp_path: Path, temporary: Path, when: str, controlling: bool
) -> None:
    started, size = (temporary / "started", "10") if when == "in a command" else (temporary / "never", "100000000")
    with running_board(tmp_path / "board", autologin=True, controlling_terminal=controlling) as board:
        until(lambda: board.phase == "shell", "the shell is there")
        profile = msgspec.json.encode(profile_of(board)).decode()
        with subprocess.Popen([sys.executable, "-c", KILLED, profile, str(started), size]) as process:
            if when == "in a command":
                until(started.exists, "the command runs")
            else:
                until(lambda: list(temporary.glob("roboticks-serial.*/in.*")), "the upload has begun")
            process.kill()
        with open_serial(profile_of(board, connect_timeout=30)) as target:
            assert answers(target)
            assert len(list(temporary.glob("roboticks-serial.*"))) == 1
        until(lambda: len(board.processes) == 1, "only the login shell is left")
        assert not list(temporary.glob("roboticks-serial.*"))


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("controlling", [True, False], ids=["terminal", "no controlling terminal"])
def test_a_run_that_was_killed_while_it_typed_its_loop_is_swept(tmp_path: Path, controlling: bool) -> None:
    with running_board(tmp_path / "board", autologin=True, controlling_terminal=controlling) as board:
        until(lambda: board.phase == "shell", "the shell is there")
        with open_line(Console(port=board.port)) as line:
            line.write(start_line("0fa139c4").encode() + b"\r")
            until(lambda: b"<0fa139c4 up" in line.read(0.1), "it reads the loop")
            line.write(b"half of it")
        with open_serial(profile_of(board, connect_timeout=30)) as target:
            assert answers(target)


@pytest.mark.parametrize("controlling", [True, False], ids=["terminal", "no controlling terminal"])
def test_a_run_that_is_cancelled_while_it_types_its_loop_logs_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, controlling: bool
) -> None:
    def cancel(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("roboticks_tasks.targets.serial.shell.loop_lines", cancel)
    with running_board(tmp_path / "board", controlling_terminal=controlling) as board:
        with pytest.raises(KeyboardInterrupt), open_serial(profile_of(board)):
            pass
        until_at_login(board)
        until(lambda: not board.processes, "no process is left")


def test_a_cancelled_run_leaves_no_command_behind(board: PtyBoard, temporary: Path) -> None:
    def cancel(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, cancel)
    try:
        with (
            pytest.raises(KeyboardInterrupt),
            open_serial(profile_of(board)) as target,
            when_it_runs(temporary / "first", lambda: os.kill(os.getpid(), signal.SIGUSR1)),
        ):
            target.run(twice(temporary), timeout=60)
    finally:
        signal.signal(signal.SIGUSR1, before)
    until_at_login(board)
    until(lambda: not board.processes, "no process is left")
    assert not list(temporary.glob("roboticks-serial.*"))


# --- the simulated board itself ---------------------------------------------------------------------------------------


def test_a_power_command_switches_the_board(tmp_path: Path) -> None:
    with running_board(tmp_path / "board", powered=False) as board:

        def power(word: str) -> str:
            return subprocess.run([board.power_command, word], check=True, capture_output=True, text=True).stdout

        assert power("state") == "off\n"
        power("on")
        assert power("state") == "on\n"
        with open_serial(profile_of(board)) as target:
            assert answers(target)
        power("off")
        assert (power("state"), board.phase, board.processes) == ("off\n", "off", [])


def test_a_firmware_registers_on_its_console(tmp_path: Path) -> None:
    with running_board(tmp_path / "board", firmware="MCU-001", heartbeat=0.05, powered=False) as board:
        log = tmp_path / "console.log"
        capture = start_capture(Console(port=board.port), log=log)
        try:
            board.power("on")
            until(lambda: "Session created: " in log.read_text(), "a session is created")
            assert "Registered with DSN: MCU-001" in log.read_text()
            until(lambda: "heartbeat 2" in log.read_text(), "it beats")
        finally:
            stop_capture(capture)
