"""What every target does the same: one command, and several at once."""

from __future__ import annotations

import hashlib
import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roboticks_tasks.errors import TargetError
from roboticks_tasks.targets import Completed, Target
from roboticks_tasks.targets.batch import run_all
from roboticks_tasks.targets.local import LocalTarget
from tests.conditions import until
from tests.contract.robot import runs
from tests.contract.shells import AWKWARD_WORDS
from tests.contract.targets import OPENERS


@pytest.fixture(scope="module", params=list(OPENERS))
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    with OPENERS[request.param]() as opened:
        yield opened


@pytest.mark.parametrize("word", AWKWARD_WORDS)
def test_an_argument_arrives_as_it_is(target: Target, word: str) -> None:
    done = target.run(["printf", "%s|", "before", word, "after"])
    assert done == Completed(0, f"before|{word}|after|".encode(), b"")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), max_size=5))
def test_any_arguments_arrive_as_they_are(target: Target, words: list[str]) -> None:
    done = target.run(["printf", "%s\\0", "first", *words])
    assert done.stdout.split(b"\0")[1:-1] == [word.encode() for word in words]


def test_ten_megabytes_of_any_bytes_go_there_and_back(target: Target) -> None:
    content = bytes(range(256)) * 40_960
    done = target.run(["cat"], stdin=content, timeout=60)
    assert (done.exit_code, done.stderr, len(done.stdout)) == (0, b"", len(content))
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(content).digest()


def test_a_command_that_does_not_read_its_input_is_no_error(target: Target) -> None:
    assert target.run(["true"], stdin=bytes(1_000_000)).ok


def test_without_input_a_command_finds_its_end_at_once(target: Target) -> None:
    assert target.run(["wc", "-c"]).text == "0"


@pytest.mark.parametrize("code", [0, 1, 7, 254, 255])
def test_the_exit_code_is_that_of_the_command(target: Target, code: int) -> None:
    done = target.run(["sh", "-c", f"exit {code}"])
    assert done.exit_code == code
    assert done.ok is (code == 0)


def test_a_program_that_is_not_there_is_127(target: Target) -> None:
    done = target.run(["/nowhere/device-manager", "--version"])
    assert done.exit_code == 127
    assert "/nowhere/device-manager" in done.last_words
    assert "not found" in done.last_words


def test_a_program_that_cannot_be_executed_is_126(target: Target, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no program")
    done = target.run([str(tmp_path / "file")])
    assert done.exit_code == 126
    assert "ermission denied" in done.last_words


def test_output_and_errors_come_apart(target: Target) -> None:
    done = target.run(["sh", "-c", "echo out; echo first >&2; echo last >&2; exit 3"])
    assert done == Completed(3, b"out\n", b"first\nlast\n")
    assert (done.text, done.last_words) == ("out", "last")


def test_much_output_on_both_sides_blocks_nothing(target: Target) -> None:
    done = target.run(
        ["sh", "-c", "head -c 1000000 /dev/zero >&2; head -c 1000000 /dev/zero; cat"], stdin=bytes(500_000)
    )
    assert (len(done.stdout), len(done.stderr)) == (1_500_000, 1_000_000)


def test_what_no_text_can_hold_is_still_shown(target: Target) -> None:
    assert target.run(["printf", "\\377 ok"]).text == "\N{REPLACEMENT CHARACTER} ok"


def test_a_command_that_takes_too_long_is_ended_with_all_its_children(target: Target, tmp_path: Path) -> None:
    script = f"trap '' TERM; sleep 60 & echo $! $$ >{tmp_path}/pids; wait"
    with pytest.raises(TargetError, match=r"`sh -c .*` did not end within 1 s"):
        target.run(["sh", "-c", script], timeout=1)
    pids = [int(word) for word in (tmp_path / "pids").read_text().split()]
    until(lambda: not any(runs(pid) for pid in pids), "the command and its child are gone")


def test_a_command_after_one_that_took_too_long_is_answered(target: Target) -> None:
    with pytest.raises(TargetError):
        target.run(["sleep", "60"], timeout=0.05)
    assert target.run(["echo", "here"]).text == "here"


class Stopped(BaseException):
    """What a signal's handler raises."""


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Every process that is started; a signal comes when it has been, and before whoever starts it knows."""
    processes: list[subprocess.Popen[bytes]] = []

    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **options: Any) -> None:
            signal.raise_signal(signal.SIGHUP)
            super().__init__(*args, **options)
            processes.append(self)
            signal.raise_signal(signal.SIGTERM)

    def stop(number: int, _: object) -> None:
        raise Stopped(number)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    previous = [(number, signal.signal(number, stop)) for number in (signal.SIGTERM, signal.SIGHUP)]
    yield processes
    for number, handler in previous:
        signal.signal(number, handler)
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with process:
            pass


def test_a_signal_in_the_moment_of_the_start_leaves_no_process(started: list[subprocess.Popen[bytes]]) -> None:
    with pytest.raises(Stopped):
        LocalTarget().run(["sleep", "60"])
    assert not runs(started[0].pid)
    assert all(signal.getsignal(number).__name__ == "stop" for number in (signal.SIGTERM, signal.SIGHUP))  # type: ignore[union-attr]


def test_a_signal_during_a_start_that_fails_is_not_lost(started: list[subprocess.Popen[bytes]]) -> None:
    with pytest.raises(Stopped):
        LocalTarget().run(["/nowhere/to/be/found"])
    assert started == []


# --- several commands at once -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_each_of_several_commands_is_answered_in_its_place(target: Target, count: int) -> None:
    commands = [["sh", "-c", f"echo out {n}; echo err {n} >&2; exit {n}"] for n in range(count)]
    expected = [Completed(n, f"out {n}\n".encode(), f"err {n}\n".encode()) for n in range(count)]
    assert run_all(target, commands) == expected


@pytest.mark.parametrize("word", AWKWARD_WORDS)
def test_the_words_of_several_commands_arrive_as_they_are(target: Target, word: str) -> None:
    first, second = run_all(target, [["printf", "%s|", word], ["printf", "%s", f"{word}2"]])
    assert (first.stdout, second.stdout) == (f"{word}|".encode(), f"{word}2".encode())


def test_several_commands_run_side_by_side(target: Target, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    fifo = shlex.quote(str(tmp_path / "fifo"))
    # Each can only end when the other one runs at the same time.
    reader, writer = run_all(target, [["sh", "-c", f"cat {fifo}"], ["sh", "-c", f"echo met >{fifo}"]], timeout=10)
    assert (reader.text, writer.exit_code) == ("met", 0)


def test_a_command_among_several_that_is_not_there_harms_no_other(target: Target) -> None:
    missing, fine = run_all(target, [["/nowhere/program"], ["printf", "a\\nb\\0c"]])
    assert missing.exit_code == 127
    assert fine == Completed(0, b"a\nb\0c", b"")


@pytest.mark.parametrize("name", ["HUP", "INT", "TERM", "PIPE"])
def test_several_commands_that_are_cut_off_leave_no_folder(tmp_path: Path, name: str) -> None:
    cut_off = f"kill -s {name} $(sed -n 's/^PPid:[^0-9]*//p' /proc/$PPID/status)"
    with pytest.raises(TargetError, match="2 commands could not be run together"):
        run_all(LocalTarget({**os.environ, "TMPDIR": str(tmp_path)}), [["sh", "-c", f"{cut_off}; :"], ["true"]])
    assert list(tmp_path.iterdir()) == []


def test_several_commands_that_take_too_long_are_ended_together(target: Target, tmp_path: Path) -> None:
    wait = f"echo $$ >>{shlex.quote(str(tmp_path / 'pids'))}; exec sleep 60"
    with pytest.raises(TargetError):
        run_all(target, [["sh", "-c", wait], ["sh", "-c", wait]], timeout=1)
    pids = [int(line) for line in (tmp_path / "pids").read_text().splitlines()]
    assert len(pids) == 2
    until(lambda: not any(runs(pid) for pid in pids), "both are gone")


KILLED_ONCE = 'echo x >>"$1"; [ "$(wc -l <"$1")" -gt 1 ] || kill -s "$2" $$; echo alive'


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP"])
def test_a_signal_that_hits_a_command_of_this_machine_at_its_birth_costs_a_repeatable_one_nothing(
    tmp_path: Path, name: str
) -> None:
    argv = ["sh", "-c", KILLED_ONCE, "sh", str(tmp_path / "times"), name]
    assert LocalTarget().run(argv, repeatable=True).text == "alive"


def test_a_command_of_this_machine_that_is_not_repeatable_is_run_once_whatever_ends_it(tmp_path: Path) -> None:
    argv = ["sh", "-c", KILLED_ONCE, "sh", str(tmp_path / "times"), "TERM"]
    assert LocalTarget().run(argv).exit_code == -signal.SIGTERM
    assert (tmp_path / "times").read_text() == "x\n"
