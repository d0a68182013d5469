"""Looks at a detached process: its life, its state and its log, whatever becomes of the log's file."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roboticks_tasks.targets import Completed, Target
from roboticks_tasks.targets.detached import Detached, identity_of
from roboticks_tasks.targets.local import LocalTarget
from roboticks_tasks.targets.watch import MOST_LOG, START, TICK, Position
from tests.contract.robot import Robot, running_robot
from tests.contract.shells import SHELLS


@pytest.fixture(scope="module", params=list(SHELLS))
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    with SHELLS[request.param]() as opened:
        yield opened


@pytest.fixture
def robot(target: Target, tmp_path: Path) -> Iterator[Robot]:
    with running_robot(target, tmp_path) as one:
        yield one


class Reader:
    """Somebody who reads a log look by look."""

    def __init__(self, robot: Robot, process: Detached) -> None:
        self._robot = robot
        self._process = process
        self.position = START

    def read(self, patience: float = 0.0) -> bytes:
        """Return what is new."""
        look = self._robot.look(self._process, position=self.position, patience=patience)
        self.position = look.position
        return look.log


@pytest.fixture
def reader(robot: Robot) -> Reader:
    return Reader(robot, robot.start("exec sleep 60"))


def test_a_look_shows_life_state_and_log(robot: Robot) -> None:
    process = robot.start('echo one; printf \'{"phase": "up"}\\n\' >a.json; echo >done; exec sleep 60')
    robot.await_file("done")
    look = robot.look(process)
    assert look[:3] == (True, '{"phase": "up"}', b"one\n")
    assert look.position == Position(str(Path(robot.log).stat().st_ino), 4, b"one\n")


def test_without_news_a_look_ends_with_its_patience(robot: Robot) -> None:
    process = robot.start("echo one; echo >done; exec sleep 60")
    robot.await_file("done")
    look = robot.look(process, patience=0.0)
    assert look[:3] == (True, "", b"one\n")
    assert robot.look(process, position=look.position, patience=0.05) == look._replace(log=b"")


def test_a_new_state_ends_the_look(robot: Robot) -> None:
    process = robot.start(
        "echo old >a.json; echo >done; read -r _ <go; echo new >a.tmp; mv a.tmp a.json; exec sleep 60"
    )
    robot.await_file("done")
    robot.tell()
    assert robot.look(process, known="old", patience=60).state == "new"


def test_a_new_line_in_the_log_ends_the_look(robot: Robot) -> None:
    process = robot.start("echo one; echo >done; read -r _ <go; echo two; exec sleep 60")
    robot.await_file("done")
    position = robot.look(process, patience=0).position
    robot.tell()
    assert robot.look(process, position=position, patience=60)[:3] == (True, "", b"two\n")


def test_the_end_of_the_process_ends_the_look_and_its_last_words_are_in_it(robot: Robot) -> None:
    process = robot.start("read -r _ <go; echo failed >a.json; echo 'last words'; exit 3")
    robot.tell()
    look = robot.look(process, patience=60)
    logged = look.log
    while look.alive:
        look = robot.look(process, known=look.state, position=look.position, patience=60)
        logged += look.log
    assert (look.state, logged) == ("failed", b"last words\n")


def test_a_long_log_comes_in_bounded_pieces_and_nothing_is_lost(robot: Robot) -> None:
    reader = Reader(robot, robot.start("seq 400000; echo >done; exec sleep 60"))
    robot.await_file("done")
    expected, seen = Path(robot.log).read_bytes(), b""
    assert len(expected) > 5 * MOST_LOG
    while len(seen) < len(expected):
        piece = reader.read()
        assert 0 < len(piece) <= MOST_LOG
        seen += piece
    assert seen == expected


def test_a_log_of_any_bytes_and_a_state_of_any_words_arrive_unchanged(robot: Robot) -> None:
    process = robot.start("exec sleep 60")
    text = '  it\'s "{}" \\n $HOME \u2603 '
    Path(robot.state).write_text(f"{text}\nsecond line\n")
    Path(robot.log).write_bytes(bytes(range(256)))
    look = robot.look(process)
    assert look[:3] == (True, text, bytes(range(256)))
    assert robot.look(process, known=text, position=look.position, patience=0).log == b""


def test_a_log_that_is_not_there_yet_is_read_from_its_beginning(robot: Robot, reader: Reader) -> None:
    Path(robot.log).unlink()
    assert reader.read() == b""
    Path(robot.log).write_bytes(b"first\n")
    assert reader.read() == b"first\n"


def test_a_log_that_is_emptied_is_read_from_its_new_beginning(robot: Robot, reader: Reader) -> None:
    Path(robot.log).write_bytes(b"a long line of before\n")
    assert reader.read() == b"a long line of before\n"
    Path(robot.log).write_bytes(b"")
    assert reader.read() == b""
    Path(robot.log).write_bytes(b"after\n")
    assert reader.read() == b"after\n"
    assert reader.read() == b""


def test_a_log_that_was_emptied_and_has_grown_beyond_the_place_is_read_from_its_beginning(
    robot: Robot, reader: Reader
) -> None:
    Path(robot.log).write_bytes(b"before\n")
    assert reader.read() == b"before\n"
    Path(robot.log).write_bytes(b"after and much longer\n")
    assert reader.read() == b"after and much longer\n"


def test_a_log_that_was_replaced_is_read_from_its_beginning(robot: Robot, reader: Reader) -> None:
    Path(robot.log).write_bytes(b"before\n")
    assert reader.read() == b"before\n"
    Path(f"{robot.log}.other").write_bytes(b"before\nand more\n")
    Path(f"{robot.log}.other").replace(robot.log)
    assert reader.read() == b"before\nand more\n"


def test_what_came_before_and_after_a_rotation_is_read(robot: Robot, reader: Reader) -> None:
    log, older = Path(robot.log), Path(f"{robot.log}.1")
    older.write_bytes(b"of an earlier run\n")
    log.write_bytes(b"one\n")
    assert reader.read() == b"one\n"
    log.write_bytes(b"one\ntwo\n")
    log.replace(older)
    assert reader.read() == b"two\n"
    log.write_bytes(b"three\n")
    assert reader.read() == b"three\n"
    assert reader.read() == b""


def test_a_rotation_before_anything_was_read_loses_nothing(robot: Robot, reader: Reader) -> None:
    assert reader.read() == b""
    Path(robot.log).write_bytes(b"one\n")
    Path(robot.log).replace(f"{robot.log}.1")
    Path(robot.log).write_bytes(b"two\n")
    assert reader.read() == b"one\ntwo\n"


def test_what_a_program_writes_to_its_old_log_until_it_opens_the_new_one_is_read(robot: Robot, reader: Reader) -> None:
    log = Path(robot.log)
    with log.open("ab", buffering=0) as late:
        late.write(b"one\n")
        assert reader.read() == b"one\n"
        log.replace(f"{log}.1")
        log.touch()
        assert reader.read() == b""
        late.write(b"two\n")
        assert reader.read() == b"two\n"
    log.write_bytes(b"three\n")
    assert reader.read() == b"three\n"


def test_a_log_that_is_copied_away_and_emptied_loses_nothing(robot: Robot, reader: Reader) -> None:
    log = Path(robot.log)
    log.write_bytes(b"a first line that is long enough\n")
    reader.read()
    with log.open("ab") as stream:
        stream.write(b"two\n")
    shutil.copy(log, f"{log}.1")
    log.write_bytes(b"three\n")
    assert reader.read() == b"two\nthree\n"
    assert reader.read() == b""


def test_a_rotation_ends_the_look(robot: Robot) -> None:
    process = robot.start(
        "echo one; echo >done; read -r _ <go; mv log/a.log log/a.log.1; echo two >log/a.log; sleep 60"
    )
    robot.await_file("done")
    position = robot.look(process, patience=0).position
    robot.tell()
    log = b""
    while not log:
        look = robot.look(process, position=position, patience=60)
        log, position = look.log, look.position
    assert (look.alive, log) == (True, b"two\n")


class Counted:
    """This machine, with a note of each program that a command starts."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._notes = folder / "programs", folder / "notes"
        self._folder.mkdir()
        for name in ("cat", "dd", "grep", "head", "ls", "od", "sh", "sleep", "stat", "tail", "tr", "wc"):
            wrapper = self._folder / name
            wrapper.write_text(f'#!/bin/sh\necho {name} >>"{self._notes}"\nexec {shutil.which(name)} "$@"\n')
            wrapper.chmod(0o755)

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0, repeatable: bool = False
    ) -> Completed:
        """Run a command."""
        self._notes.write_text("")
        return LocalTarget().run(["env", f"PATH={self._folder}", *argv], stdin=stdin, timeout=timeout)

    @property
    def programs(self) -> list[str]:
        """What the last command has started besides its shell, in order."""
        return self._notes.read_text().split()[1:]


def test_a_log_that_only_grows_costs_few_programs(tmp_path: Path) -> None:
    target = Counted(tmp_path)
    robot = Robot(target, tmp_path)
    Path(robot.log).parent.mkdir()
    Path(robot.log).write_bytes(b"one\n")
    identity = identity_of(LocalTarget(), os.getpid())
    reader = Reader(robot, Detached(os.getpid(), identity))
    assert reader.read() == b"one\n"
    with Path(robot.log).open("ab") as stream:
        stream.write(b"two\n")
    assert reader.read() == b"two\n"
    assert target.programs == ["ls", "dd", "head"]
    assert reader.read(patience=5 * TICK) == b""
    assert target.programs == ["ls", "dd", *["sleep"] * 5, "ls"]


STEPS = st.lists(
    st.one_of(st.just("rotate"), st.just("read"), st.binary(min_size=1, max_size=100), st.just(b"the same line\n")),
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
def test_of_a_log_that_is_rotated_at_any_time_every_byte_is_read_once(steps: list[str | bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        robot = Robot(LocalTarget(), Path(folder))
        log = Path(robot.log)
        log.parent.mkdir()
        log.touch()
        reader = Reader(robot, Detached(os.getpid(), "nobody"))
        seen = reader.read()
        for step in [*steps, "read", "read"]:
            if step == "read":
                seen += reader.read()
            elif isinstance(step, bytes):
                with log.open("ab") as stream:
                    stream.write(step)
            elif log.stat().st_size:
                for number in range(8, 0, -1):
                    with suppress(FileNotFoundError):
                        Path(f"{log}.{number}").replace(f"{log}.{number + 1}")
                log.replace(f"{log}.1")
                log.touch()
        assert seen == b"".join(step for step in steps if isinstance(step, bytes))
