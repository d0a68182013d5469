"""What is read from the beginning of a line: its time in any format, its level, and nothing from what has neither."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roboticks_tasks.reporting.timeline.levels import level_of
from roboticks_tasks.reporting.timeline.lines import WIDEST, as_line
from roboticks_tasks.reporting.timeline.stamps import Reader

NOON = datetime(2026, 11, 22, 14, 31, 35, tzinfo=UTC).timestamp()
READ = Reader(NOON)


@pytest.mark.parametrize(
    ("line", "at", "family"),
    [
        ("2026-11-22T14:31:35.272432Z INFO [link] Online", NOON + 0.272432, "zoned"),
        ("2026-11-22T15:31:35+01:00 x", NOON, "zoned"),
        ("2026-11-22T13:01:35,5-0130 x", NOON + 0.5, "zoned"),
        ("2026-11-22 14:31:35,272 x", NOON + 0.272, "local"),
        ("2026/11/22 14:31:35 x", NOON, "local"),
        (f"{int(NOON)} x", NOON, "zoned"),
        (f"{int(NOON)}.25 x", NOON + 0.25, "zoned"),
        (f"{int(NOON)}250 x", NOON + 0.25, "zoned"),
        (f"{int(NOON)}250000 x", NOON + 0.25, "zoned"),
        (f"{int(NOON)}250000000 x", NOON + 0.25, "zoned"),
        (f"[{int(NOON)}.25] x", NOON + 0.25, "zoned"),
        ("Nov 22 14:31:35 robot app[12]: x", NOON, "local"),
        ("<30>Nov 22 14:31:35 robot app[12]: x", NOON, "local"),
        ("<30>1 2026-11-22T14:31:35Z robot app x", NOON, "zoned"),
        ("[   12.345678] usb 1-1: x", 12.345678, "uptime"),
        ("<6>[   12.345678] usb 1-1: x", 12.345678, "uptime"),
        ("I1122 14:31:35.272432  1234 main.cc:12] x", NOON + 0.272432, "local"),
        ("E20261122 14:31:35.272432  1234 main.cc:12] x", NOON + 0.272432, "local"),
        ("[2026-11-22 14:31:35.272] [info] x", NOON + 0.272, "local"),
        (f"[INFO] [{int(NOON)}.123] [talker]: x", NOON + 0.123, "zoned"),
        (f"[ WARN] [{int(NOON)}.123456789]: x", NOON + 0.123456789, "zoned"),
    ],
)
def test_a_time_is_read_in_the_formats_of_loggers(line: str, at: float, family: str) -> None:
    stamp = READ(line)
    assert stamp is not None
    assert stamp.at == pytest.approx(at, abs=1e-6)
    assert stamp.family == family


@pytest.mark.parametrize(
    "line",
    [
        "    at frame 3 of 2026-11-22T14:31:35Z",
        "2026-13-22T14:31:35Z x",
        "2026-02-30 14:31:35 x",
        "2026-11-22T25:31:35Z x",
        "192.168.0.1 answered",
        "12345678901234567890 apples",
        "Foo 22 14:31:35 x",
        "Information",
        "[main] x",
        "[",
        "<999",
        "",
    ],
)
def test_what_is_no_time_is_taken_for_none(line: str) -> None:
    assert READ(line) is None


def test_a_stamp_without_a_year_is_of_the_year_of_the_run() -> None:
    read = Reader(datetime(2027, 1, 1, 0, 0, 5, tzinfo=UTC).timestamp())
    before, after = read("Dec 31 23:59:59 robot x"), read("Jan  1 00:00:01 robot x")
    assert before is not None
    assert after is not None
    assert after.at - before.at == 2


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("2026-11-22T14:31:35.272432Z INFO [link] Online", "info"),
        ("2026-11-22T14:31:35Z CRITICAL [link] gone", "error"),
        ("[2026-11-22 14:31:35.272] [warning] hot", "warning"),
        ("[2026-11-22 14:31:35.272] [camera] [err] hot", "error"),
        ("E1122 14:31:35.272432  1234 main.cc:12] x", "error"),
        (f"[WARN] [{int(NOON)}.123] [talker]: x", "warning"),
        ("<11>Nov 22 14:31:35 robot app[12]: x", "error"),
        ("<12>Nov 22 14:31:35 robot app[12]: x", "warning"),
        ("Nov 22 14:31:35 robot app[12]: ERROR no camera", "error"),
        ("E (1234) wifi: no access point", "error"),
        ("[00:00:01.234,567] <err> i2c: no answer", "error"),
        ("DEBUG: x", "debug"),
        ("error: no camera", "error"),
        ("[   12.345678] Kernel panic - not syncing", "error"),
        ("./run.sh: line 3: 1234 Segmentation fault", "error"),
        ("2026-11-22T14:31:35Z hello", None),
        ("no error here", None),
        ("I am here", None),
        ("error handling is on", None),
        ("information", None),
        ("mechanic at work", None),
        ("", None),
    ],
)
def test_a_level_is_read_where_a_logger_writes_it_and_not_from_prose(line: str, level: str | None) -> None:
    stamp = READ(line)
    assert (level_of(line) if stamp is None else level_of(line, stamp.end, stamp.word)) == level


@given(st.text(max_size=80))
def test_any_text_has_a_time_and_a_level_or_none(text: str) -> None:
    for line in (text, f"[{text}", f"<{text}", f"2026-11-22T14:31:35{text}", f"I1122 {text}", f"Nov 22 {text}"):
        stamp = READ(line)
        level_of(line, stamp.end if stamp else 0, stamp.word if stamp else "")


@given(st.text())
def test_any_text_becomes_one_line_that_harms_nobody(text: str) -> None:
    line = as_line(text)
    assert all(letter.isprintable() or letter == "\t" or letter.isspace() or ord(letter) > 0xA0 for letter in line)
    assert not {"\n", "\r", "\x1b", "\0", "\x85", "\u2028", "\u202e"} & set(line)
    line.encode()
    assert len(line) <= WIDEST + 10
