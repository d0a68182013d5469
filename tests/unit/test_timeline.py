"""The timeline: everything that was said in a run in one order, and each test's part of it."""

from __future__ import annotations

import json
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roboticks_tasks.errors import ConfigError
from roboticks_tasks.events import (
    CaseFinished,
    CaseStarted,
    Commanded,
    RunFinished,
    RunStarted,
    StepFinished,
    StepStarted,
    write_jsonl,
)
from roboticks_tasks.models import ClockReading
from roboticks_tasks.reporting.timeline import Timeline, build_timeline
from roboticks_tasks.reporting.timeline.lines import CHUNK, WIDEST
from roboticks_tasks.reporting.values import Case, Line
from roboticks_tasks.state import RunState

T = 1_795_386_852.0


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def record(at: float, text: str, *, monotonic: float | None = None) -> str:
    """Return a record of a console's log."""
    return f"{at - T + 1000 if monotonic is None else monotonic:.6f} {iso(at)} {text}"


def everything(timeline: Timeline) -> list[Line]:
    return [msgspec.json.decode(line, type=Line) for line in timeline.path.read_bytes().splitlines()]


def said(timeline: Timeline) -> list[tuple[float, str, str]]:
    return [(round(line.at - T, 3), line.source, line.text) for line in everything(timeline)]


def case(nodeid: str, begin: float | None = None, end: float | None = None) -> Case:
    return Case(nodeid=nodeid, classname="t", name=nodeid, outcome="failed", duration=1, begin=begin, end=end)


def finished(nodeid: str, at: float, *, outcome: str = "failed", begin: float = T, duration: float = 1) -> CaseFinished:
    values = {"nodeid": nodeid, "classname": "t", "name": nodeid, "outcome": outcome, "begin": begin, "at": at}
    return msgspec.convert(values | {"duration": duration, "message": "assert 1 == 2"}, CaseFinished)


def flood(folder: Path, count: int, *, step: float = 0.01, errors: tuple[int, ...] = ()) -> None:
    """Write a device's log of `count` lines, `step` seconds apart."""
    with (folder / "device-manager.log").open("w") as log:
        for number in range(count):
            level = "ERROR" if number in errors else "INFO"
            log.write(f"{iso(T + number * step)} {level} [greeter] number {number}\n")


def numbers(lines: list[Line]) -> list[int]:
    return [int(line.text.rpartition(" ")[2]) for line in lines if line.source == "device"]


def left_out(lines: list[Line]) -> int:
    return sum(int(line.text.split()[1]) for line in lines if "left out ---" in line.text)


def test_everybody_is_on_one_clock_and_in_one_order(tmp_path: Path) -> None:
    tell = write_jsonl(tmp_path / "events.jsonl")
    tell(RunStarted(run_id="r1", profile="sim", at=T))
    tell(StepStarted(name="launch_dm", timeout=5, at=T + 1))
    tell(StepFinished(name="launch_dm", outcome="failed", duration=0.5, error="no camera", at=T + 1.5))
    tell(RunFinished(run_id="r1", verdict="failed", exit_code=1, reason="1 failed", duration=9, at=T + 9))
    tell = write_jsonl(tmp_path / "tests.jsonl")
    tell(CaseStarted(nodeid="test_a", at=T + 3))
    tell(
        Commanded(nodeid="test_a", command="ls /", exit_code=2, begin=T + 3.1, duration=0.4, output="bin\n", at=T + 3.5)
    )
    tell(finished("test_a", T + 4))
    (tmp_path / "bus.jsonl").write_text(json.dumps({"at": T + 3.2, "topic": "/hello", "message": {"n": 1}}))
    (tmp_path / "platform.jsonl").write_text(
        json.dumps({"at": T + 2, "text": "session s is active", "level": None})
        + "\n"
        + json.dumps({"at": T + 103.3, "text": "[link] gone", "level": "error", "clock": "board"})
    )
    (tmp_path / "device-manager.log").write_text(f"{iso(T + 103.3)} ERROR [link] gone\n")
    (tmp_path / "console.log").write_text(f"{record(T + 3.4, 'login:')}\n")
    clocks = (ClockReading(at=T, offset=100, error=0),)
    state = RunState(run_id="r1", profile="sim", started_at=iso(T), clocks=clocks)
    timeline = build_timeline(tmp_path, state, [case("test_a", T + 3, T + 4)])
    assert said(timeline) == [
        (0, "lifecycle", "run r1 of profile sim began"),
        (1, "lifecycle", "launch_dm began (it may take 5 s)"),
        (1.5, "lifecycle", "launch_dm failed after 0.50 s: no camera"),
        (2, "platform", "session s is active"),
        (3, "test", "test_a began"),
        (3.1, "target", "$ ls /"),
        (3.2, "bus", '/hello {"n": 1}'),
        (3.3, "platform", "[link] gone"),
        (3.3, "device", "ERROR [link] gone"),
        (3.4, "console", "login:"),
        (3.5, "target", "bin"),
        (3.5, "target", "= exit code 2 after 0.40 s"),
        (4, "test", "test_a failed after 1.00 s: assert 1 == 2"),
        (9, "lifecycle", "the run ended: failed (1): 1 failed"),
    ]
    assert timeline.lines == 14
    assert timeline.levels == {"info": 4, "error": 5, "warning": 1}
    assert timeline.sources["device"] == 1
    assert timeline.slice_of("test_a", before=0.5, after=0)[0].text == "test_a began"
    assert [line.text for line in timeline.tail("target", 2)] == ["bin", "= exit code 2 after 0.40 s"]


def test_a_folder_without_anything_gives_a_timeline_without_lines(tmp_path: Path) -> None:
    timeline = build_timeline(tmp_path, None, [])
    assert timeline.path.read_bytes() == b""
    assert timeline.lines == 0
    assert timeline.slice_of("test_a") == timeline.span(0, 1e12) == timeline.tail("device", 5) == []


def test_a_folder_that_takes_nothing_is_said_and_the_old_timeline_stays(tmp_path: Path) -> None:
    (tmp_path / "timeline.jsonl" / "x").mkdir(parents=True)
    with pytest.raises(ConfigError, match="cannot be written"):
        build_timeline(tmp_path, None, [])
    assert [path.name for path in tmp_path.iterdir()] == ["timeline.jsonl"]


def test_what_the_platform_has_stands_where_it_was_said_however_it_stands_in_the_file(tmp_path: Path) -> None:
    lines = [(9, "session s is completed"), (2, "[link] Online"), (3, "[greeter] hello")]
    (tmp_path / "platform.jsonl").write_text(
        "".join(f"{json.dumps({'at': T + at, 'text': say})}\n" for at, say in lines)
    )
    timeline = build_timeline(tmp_path, None, [])
    assert [(at, text) for at, _, text in said(timeline)] == sorted(lines)


def test_a_chatty_bus_yields_to_what_the_device_and_the_console_say(tmp_path: Path) -> None:
    flood(tmp_path, 10, step=1.0)
    (tmp_path / "console.log").write_text("".join(f"{record(T + at, f'tick {at}')}\n" for at in range(10)))
    with (tmp_path / "bus.jsonl").open("w") as bus:
        for number in range(20_000):
            bus.write(json.dumps({"at": T + number / 2000, "topic": "/pose", "message": {"n": number}}) + "\n")
    timeline = build_timeline(tmp_path, None, [case("test_a", T + 1, T + 9)])
    lines = timeline.slice_of("test_a", most=100)
    assert numbers(lines) == list(range(10))
    assert [line.text for line in lines if line.source == "console"] == [f"tick {at}" for at in range(10)]
    messages = [line.at - T for line in lines if line.source == "bus"]
    assert len(messages) == 78
    assert max(abs(at - 9) for at in messages) < 0.1, "nearest to the test's end"


def test_a_tests_slice_is_its_time_and_some_seconds_around_it(tmp_path: Path) -> None:
    flood(tmp_path, 1000)
    timeline = build_timeline(tmp_path, None, [case("test_a", T + 5, T + 6), case("test_b")])
    assert numbers(timeline.slice_of("test_a", before=0.5, after=0.25)) == list(range(450, 626))
    assert timeline.slice_of("test_b") == []


def test_a_slice_that_is_too_long_keeps_what_is_nearest_to_the_failure_and_the_errors(tmp_path: Path) -> None:
    flood(tmp_path, 20_000, errors=(3, 5000, 5001, 12_345))
    timeline = build_timeline(tmp_path, None, [case("test_a", T + 10, T + 190)])
    lines = timeline.slice_of("test_a", most=100)
    kept = numbers(lines)
    assert kept[:3] == [5000, 5001, 12_345]
    assert kept[3:] == list(range(kept[3], kept[3] + 96))  # and the test's own end
    assert abs((kept[3] + kept[-1]) / 2 - 19_000) <= 1
    # Two seconds before, one after, and the lines of the test's own begin and end.
    assert left_out(lines) + sum("left out ---" not in line.text for line in lines) == 18_301 + 2
    assert left_out(timeline.slice_of("test_a", most=30_000)) == 0


def test_errors_without_end_leave_half_of_a_slice_to_what_is_nearest(tmp_path: Path) -> None:
    flood(tmp_path, 5_000, errors=tuple(range(4_000)))
    timeline = build_timeline(tmp_path, None, [case("test_a", T, T + 49.98)])
    kept = numbers(timeline.slice_of("test_a", most=100, after=0))
    assert len(kept) in range(98, 101)
    assert kept[:49] == list(range(3_951, 4_000))  # and the test's own end
    assert kept[-1] == 4998


def test_a_test_that_never_ended_lasts_as_long_as_the_tests(tmp_path: Path) -> None:
    flood(tmp_path, 1000)
    write_jsonl(tmp_path / "tests.jsonl")(CaseStarted(nodeid="test_a", at=T + 2))
    write_jsonl(tmp_path / "events.jsonl")(StepFinished(name="pytest_session", outcome="ok", duration=1, at=T + 5))
    timeline = build_timeline(tmp_path, None, [])
    assert numbers(timeline.slice_of("test_a", before=0, after=0)) == list(range(200, 501))


def test_of_a_test_that_was_run_again_the_slice_is_the_last_attempts(tmp_path: Path) -> None:
    flood(tmp_path, 1000)
    tell = write_jsonl(tmp_path / "tests.jsonl")
    for begin in (1, 4):
        tell(CaseStarted(nodeid="test_a", at=T + begin))
        tell(finished("test_a", T + begin + 1, outcome="rerun" if begin == 1 else "passed"))
    timeline = build_timeline(tmp_path, None, [])
    assert numbers(timeline.slice_of("test_a", before=0, after=0)) == list(range(400, 501))
    assert timeline.levels["warning"] == 1


def test_the_wall_clock_of_this_machine_set_back_reorders_nothing(tmp_path: Path) -> None:
    tell = write_jsonl(tmp_path / "tests.jsonl")
    tell(CaseStarted(nodeid="test_a", at=T))
    tell(finished("test_a", T + 5))
    tell(CaseStarted(nodeid="test_b", at=T - 3600))
    tell(finished("test_b", T - 3598))
    log = [record(T + 1, "a"), record(T - 3590, "b", monotonic=1011), record(T + 12, "c", monotonic=1012)]
    (tmp_path / "console.log").write_text("\n".join(log))
    timeline = build_timeline(tmp_path, None, [])
    assert [(at, text) for at, source, text in said(timeline) if source == "console"] == [
        (1, "a"),
        (11, "b"),
        (12, "c"),
    ]
    assert [at for at, source, _ in said(timeline) if source == "test"] == [0, 5, 5, 7]


def test_all_parts_of_a_console_are_read_the_oldest_first(tmp_path: Path) -> None:
    for number, name in enumerate(("console.log.2", "console.log.1", "console.log")):
        (tmp_path / name).write_text(f"{record(T + number, f'part {number}')}\n")
    timeline = build_timeline(tmp_path, None, [])
    assert [text for _, _, text in said(timeline)] == ["part 0", "part 1", "part 2"]


def test_a_microcontrollers_console_is_its_log_and_said_once(tmp_path: Path) -> None:
    (tmp_path / "console.log.1").write_text(f"{record(T, 'boot')}\n")
    for name in ("console.log", "device-manager.log"):
        (tmp_path / name).write_text(f"{record(T + 1, 'E (12) wifi: no')}\ndamaged\n")
    assert said(build_timeline(tmp_path, None, [])) == [
        (0, "device", "boot"),
        (1, "device", "E (12) wifi: no"),
        (1, "device", "damaged"),
    ]


def test_of_a_log_without_time_for_it_the_end_is_taken(tmp_path: Path) -> None:
    flood(tmp_path, 1000)
    timeline = build_timeline(tmp_path, None, [], most=1000)
    size = len((tmp_path / "device-manager.log").read_bytes().splitlines()[-1]) + 1
    assert numbers(everything(timeline)) == list(range(1000 - 1000 // size, 1000))


def test_lines_that_do_not_end_are_cut_and_say_so(tmp_path: Path) -> None:
    with (tmp_path / "device-manager.log").open("w") as log:
        log.write(f"{iso(T)} short\n{iso(T + 1)} {'x' * (3 * CHUNK)}\n{iso(T + 2)} last\n{iso(T + 3)} {'y' * CHUNK}")
    first, long, last, longest = everything(build_timeline(tmp_path, None, []))
    assert (first.text, last.text) == ("short", "last")
    assert long.text.strip("x") == longest.text.strip("y") == "… (cut)"
    assert WIDEST - 40 < len(long.text) <= WIDEST + 10


def test_what_could_harm_a_terminal_or_hide_a_line_is_gone(tmp_path: Path) -> None:
    text = b"\x1b[31mred\x1b[0m \x1b]0;title\x07\0\x08 \xff \xe2\x80\xae \xc2\x85 50%\rprogress\r\nnext"
    (tmp_path / "device-manager.log").write_bytes(iso(T).encode() + b" " + text)
    (tmp_path / "console.log").write_text(record(T, r"\x1b[1;32mgreen\x1b[0m"))
    texts = [line.text for line in everything(build_timeline(tmp_path, None, []))]
    assert texts == [r"red \x00\x08 \xff \xe2\x80\xae \xc2\x85 50%", "progress", "next", "green"]


def test_memory_does_not_grow_with_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roboticks_tasks.reporting.timeline.lines.CHUNK", 1 << 16)

    def peak(count: int) -> int:
        flood(tmp_path, count, step=0.0001)
        tracemalloc.start()
        timeline = build_timeline(tmp_path, None, [case("test_a", T, T + 10)])
        timeline.slice_of("test_a", most=50)
        high = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return high

    assert peak(24_000) < 1.5 * peak(8_000)


PIECES = [
    *(b"\n", b"\r", b"\x1b[", b"[", b"<30>", b"{", b"}", b"\xe2\x82"),
    *(b"2026-11-22T14:31:35.272432Z INFO x\n", b"[   12.5] x\n", b"1795386852 x\n", b"I1122 14:31:35 x\n"),
    b"1000.000000 2026-11-22T14:31:35.272432Z x\n",
    b'{"at": 1e308, "topic": "x"}\n',
    b'{"at": 1, "text": "\\ud800"}',
    b'{"event":"case-started","nodeid":"a","at":-1e300}\n',
]
BYTES = st.one_of(st.binary(max_size=80), st.sampled_from(PIECES))
FILES = (
    "device-manager.log",
    "console.log",
    "console.log.1",
    "events.jsonl",
    "tests.jsonl",
    "bus.jsonl",
    "platform.jsonl",
)


@settings(max_examples=120, deadline=None)  # disks are slow at times
@given(
    st.lists(st.tuples(st.sampled_from(FILES), st.lists(BYTES, max_size=12).map(b"".join)), max_size=7),
    st.integers(0, 99),
)
def test_any_bytes_in_any_log_give_a_sorted_timeline_of_harmless_lines(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[str, bytes]], most: int
) -> None:
    folder = tmp_path_factory.mktemp("run")
    for name, content in files:
        (folder / name).write_bytes(content)
    timeline = build_timeline(folder, None, [case("a", T, T)], most=most or None)
    lines = everything(timeline)
    assert [line.at for line in lines] == sorted(line.at for line in lines)
    assert len(lines) == timeline.lines == sum(timeline.sources.values())
    assert not any({"\n", "\r", "\x1b", "\0"} & set(line.text) for line in lines)
    assert timeline.span(float("-inf"), float("inf"), most=1_000) == lines
    timeline.slice_of("a")
    device = [line for line in lines if line.source == "device"]
    assert timeline.tail("device", 3) == device[-3:]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 600), max_size=40),
    st.integers(-10, 700),
    st.integers(0, 300),
    st.integers(2, 30),
    st.sets(st.integers(0, 39)),
)
def test_a_span_has_all_its_lines_or_says_how_many_are_missing(
    tmp_path_factory: pytest.TempPathFactory, at: list[int], begin: int, length: int, most: int, errors: set[int]
) -> None:
    folder = tmp_path_factory.mktemp("run")
    moments = sorted(at)
    words = [f"{'ERROR' if number in errors else 'INFO'} {number}" for number in range(len(moments))]
    log = "".join(f"{record(T + each, word)}\n" for each, word in zip(moments, words, strict=True))
    (folder / "console.log").write_text(log)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("roboticks_tasks.reporting.timeline.building.BLOCK", 300)
        timeline = build_timeline(folder, None, [])
    end = begin + length
    expected = [number for number, each in enumerate(moments) if begin <= each <= end]
    lines = timeline.span(T + begin, T + end, most=most)
    kept = [int(line.text.split()[1]) for line in lines if line.source == "console"]
    assert kept == sorted(kept)
    assert set(kept) <= set(expected)
    assert len(kept) == min(most, len(expected))
    assert len(kept) + left_out(lines) == len(expected)
    assert len(set(kept) & errors) >= min(most // 2, len(set(expected) & errors))
    if expected:
        assert kept[-(most - most // 2) :] == expected[-(most - most // 2) :]
