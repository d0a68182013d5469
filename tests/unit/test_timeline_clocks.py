"""A board's log on this machine's clock: offsets, drift, jumps, zones that nobody names, and no clock at all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roboticks_tasks.events import StepFinished, StepStarted, write_jsonl
from roboticks_tasks.models import ClockReading, Dsn
from roboticks_tasks.reporting.timeline import build_timeline
from roboticks_tasks.reporting.timeline.clocks import courses_of
from roboticks_tasks.reporting.values import Line
from roboticks_tasks.state import RunState

T = 1_795_386_852.0
"""When the device manager is launched; the run takes 600 seconds."""

DSN = "WR-0001"


def reading(at: float, offset: float, error: float = 0.001) -> ClockReading:
    return ClockReading(at=at, offset=offset, error=error)


def iso(at: float, zone: str = "Z") -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + zone


def run_in(
    folder: Path,
    log: Sequence[str],
    *,
    clocks: Sequence[ClockReading] = (),
    dsn_at: float | None = None,
    seconds: float = 600,
) -> list[Line]:
    """Return the device's lines of a run of so many seconds; `dsn_at` is when the run has seen the DSN."""
    tell = write_jsonl(folder / "events.jsonl")
    tell(StepStarted(name="launch_dm", at=T))
    tell(StepFinished(name="launch_dm", outcome="ok", duration=0.1, at=T + 0.1))
    if dsn_at is not None:
        tell(StepFinished(name="await_dsn", outcome="ok", duration=0.1, at=dsn_at))
    tell(StepFinished(name="teardown", outcome="ok", duration=0.1, at=T + seconds))
    (folder / "device-manager.log").write_text("".join(f"{line}\n" for line in log))
    state = RunState(
        run_id="1",
        profile="sim",
        started_at=iso(T),
        clocks=tuple(clocks),
        dsn=Dsn(value=DSN, source="log") if dsn_at is not None else None,
    )
    timeline = build_timeline(folder, state, ())
    return [line for line in timeline.span(-1e12, 1e12, most=10_000) if line.source == "device"]


def times(lines: Sequence[Line]) -> list[float]:
    """Return the moments of what the device said, in seconds of the run."""
    return [round(line.at - T, 3) for line in lines if not line.text.startswith("---")]


@given(
    st.floats(-1e8, 1e8),
    st.floats(-0.0009, 0.0009),
    st.lists(st.floats(0, 600), min_size=2, max_size=5, unique=True),
    st.floats(0, 1),
)
def test_a_clock_that_drifts_steadily_is_put_right_exactly(
    offset: float, drift: float, at: list[float], share: float
) -> None:
    course, *others = courses_of([reading(T + each, offset + drift * each) for each in at])
    assert not others
    moment = min(at) + share * (max(at) - min(at))
    assert course.to_bench(T + moment + offset + drift * moment) == pytest.approx(T + moment, abs=1e-4)


@given(st.floats(-1e9, 1e9), st.floats(-1e6, 1e6))
def test_one_reading_is_the_offset_of_every_moment(offset: float, moment: float) -> None:
    [course] = courses_of([reading(T, offset)])
    assert course.to_bench(T + moment + offset) == pytest.approx(T + moment, abs=1e-5)


@given(
    st.lists(st.tuples(st.floats(0, 1e10), st.floats(-1e10, 1e10), st.floats(0, 1e10)), max_size=6), st.floats(0, 1e10)
)
def test_any_readings_give_courses_that_never_run_backwards(
    values: list[tuple[float, float, float]], stamp: float
) -> None:
    for course in courses_of([ClockReading(at=at, offset=offset, error=error) for at, offset, error in values]):
        assert course.to_bench(stamp) <= course.to_bench(stamp + 1)


def test_the_boards_stamps_are_corrected_by_the_readings(tmp_path: Path) -> None:
    log = [f"{iso(T + at + 7200 + at / 1000)} INFO x" for at in (1, 300, 590)]
    clocks = [reading(T, 7200), reading(T + 600, 7200.6)]
    lines = run_in(tmp_path, log, clocks=clocks)
    assert times(lines) == [1, 300, 590]
    assert [line.text for line in lines] == ["INFO x"] * 3


def test_lines_without_a_time_belong_to_the_one_before(tmp_path: Path) -> None:
    log = ["banner", f"{iso(T + 1)} ERROR Traceback", "  File x", "  ValueError", f"{iso(T + 2)} INFO on"]
    lines = run_in(tmp_path, log)
    assert times(lines) == [1, 1, 1, 1, 2]
    assert lines[2].text == "  File x"


def test_small_steps_back_keep_the_order_of_the_lines(tmp_path: Path) -> None:
    lines = run_in(tmp_path, [f"{iso(T + at)} {at}" for at in (1, 1.5, 1.4, 1.6)])
    assert [line.text for line in lines] == ["1", "1.5", "1.4", "1.6"]
    assert times(lines) == [1, 1.5, 1.5, 1.6]


def test_a_board_that_began_in_1970_is_placed_by_the_moment_of_its_dsn(tmp_path: Path) -> None:
    log = [f"{iso(10)} INFO boot", f"{iso(12)} INFO Registered with DSN: {DSN}", f"{iso(14)} INFO waits"]
    log += [f"{iso(T + 30)} INFO time is set"]
    lines = run_in(tmp_path, log, dsn_at=T + 5, clocks=[reading(T + 600, 0)])
    assert times(lines) == [3, 5, 7, 30]
    assert "says 1970-01-01 00:00:10 here, which is wrong" in lines[0].text
    assert lines[1].text == f"{iso(10)} INFO boot"  # what the board thought


def test_without_a_known_moment_what_was_said_in_1970_ends_where_the_right_time_begins(tmp_path: Path) -> None:
    log = [f"{iso(10)} INFO boot", f"{iso(14)} INFO waits", f"{iso(T + 30)} INFO time is set"]
    assert times(run_in(tmp_path, log)) == [26, 30, 30]


def test_a_reading_from_before_the_clock_was_set_places_what_was_said_then(tmp_path: Path) -> None:
    log = [f"{iso(10)} INFO boot", f"{iso(14)} INFO waits", f"{iso(T + 30)} INFO time is set"]
    clocks = [reading(T + 4, 12 - (T + 4)), reading(T + 600, 0)]
    lines = run_in(tmp_path, log, clocks=clocks)
    assert times(lines) == [2, 6, 30]
    assert len(lines) == 3  # nothing is a guess


def test_a_step_that_only_the_readings_tell_of_splits_the_log(tmp_path: Path) -> None:
    log = [f"{iso(T + at - 100)} INFO x" for at in (1, 2, 3)] + [f"{iso(T + at)} INFO x" for at in (50, 51)]
    assert times(run_in(tmp_path, log, clocks=[reading(T, -100), reading(T + 600, 0)])) == [1, 2, 3, 50, 51]


def test_a_clock_that_is_set_back_goes_on(tmp_path: Path) -> None:
    log = [f"{iso(T + at)} INFO x" for at in (100, 200, 150, 160)]
    lines = run_in(tmp_path, log)
    assert times(lines) == [100, 200, 200, 210]
    assert sum(line.text.startswith("--- the device's clock says") for line in lines) == 1


def test_a_clock_that_is_days_ahead_is_placed_at_the_launch(tmp_path: Path) -> None:
    log = [f"{iso(T + 3 * 86400 + at)} INFO x" for at in (5, 6)]
    assert times(run_in(tmp_path, log)) == [0, 1]


def test_lines_of_an_earlier_run_stay_where_they_are(tmp_path: Path) -> None:
    log = [f"{iso(T - 86400)} INFO yesterday", f"{iso(T + 1)} INFO today"]
    assert times(run_in(tmp_path, log)) == [-86400, 1]


@pytest.mark.parametrize("hours", [-9.5, -1, 0, 5.75, 9])
def test_local_time_without_a_zone_is_found_out(tmp_path: Path, hours: float) -> None:
    log = [f"{iso(T + at + hours * 3600, '')} INFO x" for at in (2, 300, 590)]
    assert times(run_in(tmp_path, log)) == [2, 300, 590]


@pytest.mark.parametrize("change", [-3600, 3600])
def test_daylight_saving_changes_nothing(tmp_path: Path, change: float) -> None:
    log = [f"{iso(T + at + 3600, '')} INFO x" for at in (2, 100)]
    log += [f"{iso(T + at + 3600 + change, '')} INFO x" for at in (105, 110)]
    assert times(run_in(tmp_path, log)) == [2, 100, 105, 110]


def test_daylight_saving_within_a_long_run_leaves_the_silence_around_it(tmp_path: Path) -> None:
    log = [f"{iso(T + at, '')} INFO x" for at in (2, 1000, 2000, 2900, 3600, 4300, 5000)]
    log += [f"{iso(T + at - 3600, '')} INFO x" for at in (5040, 5050)]
    assert times(run_in(tmp_path, log, seconds=9000))[-3:] == [5000, 5040, 5050]


def test_the_kernels_lines_in_a_log_with_times_belong_to_those_around_them(tmp_path: Path) -> None:
    log = [f"{iso(T + 1)} a", "[   12.5] b", "[   12.6] c", "[   12.7] d", f"{iso(T + 2)} e"]
    assert times(run_in(tmp_path, log)) == [1, 1, 1, 1, 2]


def test_the_kernels_seconds_count_from_a_known_moment(tmp_path: Path) -> None:
    log = ["[    1.000000] boot", f"[    4.500000] app: {DSN}", "[    9.000000] on"]
    assert times(run_in(tmp_path, log, dsn_at=T + 6)) == [2.5, 6, 10.5]


def test_the_kernels_seconds_alone_tell_nothing(tmp_path: Path) -> None:
    lines = run_in(tmp_path, ["[    1.000000] boot", "[    4.500000] app"])
    assert times(lines) == [0, 0]
    assert "no line of the device's log tells its time" in lines[0].text


def test_a_log_without_any_time_is_placed_by_what_the_run_saw_in_it(tmp_path: Path) -> None:
    assert times(run_in(tmp_path, ["boot", f"DSN is {DSN}", "on"], dsn_at=T + 6)) == [0, 6, 6]


def test_stamps_of_another_kind_in_between_do_not_count(tmp_path: Path) -> None:
    log = [f"{iso(T + 1)} a", "2026-11-22 03:00:00.000 b", "[   12.5] c", f"{iso(T + 2)} d", f"{iso(T + 3)} e"]
    assert times(run_in(tmp_path, log)) == [1, 1, 1, 2, 3]


STAMPS = st.floats(-1e3, 2.5e11, allow_nan=False)


@settings(max_examples=50, deadline=None)  # disks are slow at times
@given(
    st.lists(st.one_of(STAMPS, st.floats(T - 100, T + 700)), max_size=30),
    st.lists(st.tuples(STAMPS, STAMPS), max_size=3),
)
def test_any_clock_gives_sorted_lines_in_the_order_of_the_log(
    tmp_path_factory: pytest.TempPathFactory, stamps: list[float], clocks: list[tuple[float, float]]
) -> None:
    folder = tmp_path_factory.mktemp("run")
    log = [f"{iso(max(0.0, each))} INFO number {number}" for number, each in enumerate(stamps)]
    lines = run_in(folder, log, clocks=[reading(at, offset) for at, offset in clocks], dsn_at=T + 5)
    said = [line.text.rpartition(" ")[2] for line in lines if not line.text.startswith("---")]
    assert said == [str(number) for number in range(len(stamps))]
    assert [line.at for line in lines] == sorted(line.at for line in lines)
