"""A console that is lost under the tests: told by its capture's notes, or by the capture's own end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from roboticks_tasks import processes
from roboticks_tasks.lifecycle.support.console_loss import LATEST, console_loss, log_size
from roboticks_tasks.models import BoardRef, Capture, Process
from roboticks_tasks.serial_console.records import Records

GONE = Process(pid=2**22 + 1, start_time=1)
SAID, LOST, BACK, ENDED = b"said", "console lost: it hung up", "console back", "capture ended: it does not come back"


def written(*notes: str | bytes) -> bytes:
    """Return a log as the capture writes it: what the board said, and its own notes."""
    records = Records()
    return b"".join(records.note(each) if isinstance(each, str) else records.take(each + b"\n") for each in notes)


@pytest.fixture
def board(tmp_path: Path) -> BoardRef:
    here = Process(pid=os.getpid(), start_time=processes.start_time(os.getpid()) or 0)
    log = tmp_path / "console.log"
    log.write_bytes(written(SAID))
    return BoardRef(id="lab-7", capture=Capture(process=here, port="/dev/x", log=str(log), socket="/x"))


def add(board: BoardRef, content: bytes) -> None:
    assert board.capture is not None
    with Path(board.capture.log).open("ab") as log:
        log.write(content)


@pytest.mark.parametrize(
    ("notes", "told"),
    [
        ((), None),
        ((b"--- console lost: says the board", SAID), None),
        ((LOST,), "it hung up"),
        ((LOST, ENDED), "it hung up"),
        ((ENDED,), "it does not come back"),
        ((LOST, BACK, SAID), None),
        ((LOST, BACK, "console lost: again"), "again"),
    ],
)
def test_a_console_is_lost_when_its_last_note_says_so(
    board: BoardRef, notes: tuple[str | bytes, ...], told: str | None
) -> None:
    since = log_size(board)
    add(board, written(*notes))
    assert console_loss(board, since=since) == told


def test_what_was_lost_before_is_not_the_tests(board: BoardRef) -> None:
    add(board, written(LOST))
    assert console_loss(board, since=log_size(board)) is None


def test_a_log_that_was_begun_anew_is_read_from_its_beginning_and_a_long_one_from_near_its_end(board: BoardRef) -> None:
    add(board, written(LOST))
    assert console_loss(board, since=10**9) == "it hung up"
    add(board, written(SAID) * (LATEST // 20))
    assert console_loss(board, since=0) is None


def test_a_capture_that_is_gone_has_lost_the_console(board: BoardRef) -> None:
    assert board.capture is not None
    capture = Capture(process=GONE, port="/dev/x", log=board.capture.log, socket="/x")
    assert console_loss(BoardRef(id="a", capture=capture), since=0) == "the process that captures it is gone"


def test_a_board_without_a_console_cannot_lose_it(board: BoardRef) -> None:
    assert board.capture is not None
    Path(board.capture.log).unlink()
    assert [log_size(each) for each in (None, BoardRef(id="a"), board)] == [0, 0, 0]
    assert [console_loss(each, since=0) for each in (None, BoardRef(id="a"), board)] == [None, None, None]
