"""What a console says, as the records of a log; and the log, in parts of a limited size."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from roboticks_tasks.serial_console.port import PASSING, link_of, may_come_back
from roboticks_tasks.serial_console.records import LINE_LIMIT, Records, escape
from roboticks_tasks.serial_console.rotation import RotatingLog

RECORD = re.compile(rb"\d+\.\d{6} \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z (.*)", re.DOTALL)


def logged(*chunks: bytes, end: bool = True) -> bytes:
    records = Records()
    return b"".join([records.take(chunk) for chunk in chunks] + [records.end() if end else b""])


def texts(log: bytes) -> list[bytes]:
    found = [RECORD.fullmatch(line) for line in log.split(b"\n")[:-1]]
    assert None not in found, log
    return [match.group(1) for match in found if match]


def chunked(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


ENDS = st.sampled_from([b"\r", b"\n", b"\r\n", b"\r\r\n", b"\x1b[0m"])
CONSOLE = st.lists(st.one_of(st.binary(max_size=8), ENDS, st.text().map(str.encode))).map(b"".join)


@settings(deadline=None)  # a busy machine is no failure
@given(CONSOLE, st.lists(st.integers(0, 10_000), max_size=12))
@example(b"a\r\nb", [2])
@example("ü€😀".encode(), [1, 3, 4, 6, 7, 8])
@example(b"\r\r\n\n", [1, 2, 3])
def test_however_the_bytes_are_cut_the_records_are_the_escaped_lines(data: bytes, cuts: list[int]) -> None:
    lines = re.sub(rb"\r+\n?", b"\n", data).split(b"\n")
    expected = [escape(line) for line in (lines if lines[-1] else lines[:-1])]
    assert texts(logged(*chunked(data, cuts))) == expected


@settings(deadline=None)
@given(
    st.integers(0, 3 * LINE_LIMIT),
    st.lists(st.integers(0, 3 * LINE_LIMIT), max_size=5),
    st.sampled_from(["x", "€", "\x01"]),
)
def test_a_line_without_end_is_cut_into_records_of_limited_length_and_loses_nothing(
    size: int, cuts: list[int], letter: str
) -> None:
    data = (letter * (size // len(letter.encode()))).encode()
    found = texts(logged(*chunked(data, cuts)))
    assert b"".join(found) == escape(data)
    assert all(len(text) <= LINE_LIMIT * (4 if letter == "\x01" else 1) for text in found)
    assert len(found) <= len(data) // (LINE_LIMIT - 3) + 1


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (b"\x1b]0;owned\x07", rb"\x1b]0;owned\x07"),
        (b"\xff\xfe", rb"\xff\xfe"),
        (b"a\tb", b"a\tb"),
        ("grün ✓".encode(), "grün ✓".encode()),
        ("\x9b31m".encode(), rb"\xc2\x9b31m"),
        ("a\u2028b\u202e".encode(), rb"a\xe2\x80\xa8b\xe2\x80\xae"),
        (b"\xed\xa0\x80", rb"\xed\xa0\x80"),
        (b"\x00\x7f", rb"\x00\x7f"),
    ],
)
def test_what_could_take_over_a_terminal_is_written_in_hexadecimal(said: bytes, text: bytes) -> None:
    assert texts(logged(said + b"\n")) == [text]


def test_a_prompt_is_in_the_log_before_its_line_ends_and_its_answer_joins_the_same_record() -> None:
    records = Records()
    assert records.take(b"login: ").endswith(b"Z login: ")
    assert records.take(b"root\r\n") == b"root\n"
    assert records.take(b"\n").count(b"Z ") == 1


def test_a_note_of_ours_completes_the_line_before_it() -> None:
    records = Records()
    assert texts(records.take(b"half") + records.note("console lost: \x1b")) == [b"half", rb"--- console lost: \x1b"]


def test_half_a_character_is_kept_for_its_other_half_and_written_when_none_comes() -> None:
    records = Records()
    assert records.take(b"\xe2\x82") == b""
    assert texts(records.take(b"\xac") + records.end()) == ["€".encode()]
    assert texts(logged(b"\xe2\x82")) == [rb"\xe2\x82"]


def parts(path: Path) -> list[bytes]:
    names = sorted(path.parent.glob(f"{path.name}.*"), key=lambda part: -int(part.suffix[1:]))
    return [name.read_bytes() for name in [*names, path]]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 60), max_size=60))
def test_the_parts_of_a_log_hold_all_of_it_in_order_and_end_between_records(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int]
) -> None:
    path = tmp_path_factory.mktemp("log") / "console.log"
    log = RotatingLog(path, size=100, keep=1000)
    text = b"".join(str(number).encode() * length + b"\n" for number, length in enumerate(lengths))
    for start in range(0, len(text), 37):
        assert log.write(text[start : start + 37])
    log.close()
    found = parts(path)
    assert b"".join(found) == text
    assert all(part.endswith(b"\n") for part in found[:-1])
    assert all(len(part) <= 100 + 121 for part in found)


def test_only_so_many_old_parts_are_kept(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "console.log", size=10, keep=2)
    for number in range(9):
        log.write(b"record %d\n" % number)
    log.close()
    assert parts(tmp_path / "console.log") == [b"record 6\n", b"record 7\n", b"record 8\n"]


def test_a_log_that_was_cut_off_goes_on_with_a_record_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    path.write_bytes(b"cut o")
    log = RotatingLog(path)
    log.write(b"next\n")
    log.close()
    assert path.read_bytes() == b"cut o\nnext\n"


def test_a_full_disk_loses_records_and_counts_them() -> None:
    log = RotatingLog(Path("/dev/full"))
    assert not log.write(b"lost\n")
    log.close()
    assert log.lost == 5
    assert log.problem == "No space left on device"


def test_a_pseudo_terminal_is_opened_again_only_behind_a_link_that_was_made_anew(tmp_path: Path) -> None:
    board, device = os.openpty()
    name, link = os.ttyname(device), tmp_path / "link"
    link.symlink_to(name)
    before = link_of(str(link))
    assert before not in {None, PASSING}
    assert not may_come_back(str(link), before)
    (tmp_path / "new").symlink_to(name)
    (tmp_path / "new").replace(link)
    assert may_come_back(str(link), before)
    assert link_of(name) == PASSING
    assert not may_come_back(name, PASSING)
    assert link_of("socket://127.0.0.1:1") is None
    os.close(board)
    os.close(device)
