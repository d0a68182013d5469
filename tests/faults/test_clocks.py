"""Wall clocks that jump, and that differ: a run goes on, or says how much they differ."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from roboticks_tasks.events import RunFinished, RunStarted, StepFinished, StepStarted, read_events
from roboticks_tasks.reporting.lifecycle_suite import STEPS
from tests.e2e.bench import Bench
from tests.faults.clocks import DAY, HOUR, Clock, faked_clock
from tests.faults.moments import Moment, await_moment

ROOT = Path(__file__).resolve().parents[2]
LONG = 60.0
"""Seconds; no step takes half as long, and no clock jumps by so little."""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    (tmp_path / "runtime").mkdir()
    one = Bench(tmp_path)
    yield one
    one.kill_everything()


@pytest.fixture
def clock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clock]:
    with faked_clock(tmp_path_factory.mktemp("clock")) as one:
        yield one


@pytest.mark.parametrize("days", [400, -400])
def test_a_clock_that_jumps_under_a_run_changes_nothing_but_stamps(bench: Bench, clock: Clock, days: int) -> None:
    # There and back and there again: within a wait, within the tests, within teardown. Before, the device may not yet
    # have connected, and after a jump back no certificate is valid.
    jumps = {Moment("deploy"): days, Moment("pytest_session", delay=0.3): 0, Moment("teardown"): days}
    run = bench.folder / "run"
    process = bench.popen("hil-test", "--artifacts", str(run), variables=clock.environment)
    for moment, shift in jumps.items():
        await_moment(moment, run / "events.jsonl", alive=lambda: process.poll() is None)
        clock.shift(shift * DAY)
    out, err = process.communicate(timeout=LONG)
    result = bench.result(run)
    assert (process.returncode, result["verdict"]) == (0, "passed"), out + err
    assert [step["name"] for step in result["steps"]] == list(STEPS)
    assert {part["outcome"] for part in result["steps"]} == {"ok"}
    _assert_times_are_sane(run, result["duration"], [step["duration"] for step in result["steps"]])
    _assert_order(run, days)
    bench.assert_nothing_is_left()


def _assert_times_are_sane(run: Path, duration: float, steps: list[float]) -> None:
    junit = [float(each.get("time", "0")) for each in ET.parse(run / "results.xml").iter()]
    assert len(junit) > 6 + len(STEPS)
    for seconds in (duration, *steps, *junit):
        assert 0 <= seconds < LONG


def _assert_order(run: Path, days: int) -> None:
    """Check that each step begins and ends in its place, whatever the stamps say, and that they have jumped."""
    first, *events, last = read_events(run / "events.jsonl")
    assert isinstance(first, RunStarted)
    assert isinstance(last, RunFinished)
    for name, begin, end in zip(STEPS, events[::2], events[1::2], strict=True):
        assert isinstance(begin, StepStarted)
        assert isinstance(end, StepFinished)
        assert (begin.name, end.name) == (name, name)
    assert abs(last.at - first.at - days * DAY) < LONG
    stamps = re.findall(r"^\d{4}-\d\d-\d\dT\S+Z", (run / "device-manager.log").read_text(), re.MULTILINE)
    moments = [datetime.fromisoformat(stamp).timestamp() for stamp in stamps]
    assert abs(max(moments) - min(moments) - abs(days) * DAY) < LONG


def test_certificates_of_a_time_when_the_clock_was_wrong_are_made_anew(bench: Bench, clock: Clock) -> None:
    for days in (400, -4000, 0):  # those of the first are not yet valid in the second, whose have expired in the last
        clock.shift(days * DAY)
        done = bench.run("hil-test", "--", "-k", "registered", variables=clock.environment)
        assert done.code == 0, done.err
    bench.assert_nothing_is_left()


def _with_clock_of_its_own(bench: Bench, clock: Clock, *, session: int = 30) -> None:
    text = (ROOT / "hardware_profiles" / "sim.toml").read_text()
    text = re.sub("^session = 30$", f"session = {session}", text, flags=re.MULTILINE)
    variables = "".join(f'{name} = "{value}"\n' for name, value in clock.environment.items())
    bench.profile("sim", f"{text}\n[device_manager.environment]\n{variables}")


@pytest.mark.parametrize(("shift", "words"), [(-HOUR, "60 minutes"), (-400 * DAY, "400 days"), (800 * DAY, "800 days")])
def test_a_device_for_which_no_certificate_is_valid_says_how_wrong_its_clock_is(
    bench: Bench, clock: Clock, shift: int, words: str
) -> None:
    _with_clock_of_its_own(bench, clock, session=2)
    clock.shift(shift)
    done = bench.run("hil-test")
    result = bench.result()
    assert (done.code, result["exit_code"], result["verdict"]) == (13, 13, "bench-error"), done.err
    which = "behind" if shift < 0 else "ahead of"
    pattern = rf"no session for SIM-\w+: .* certificate .*; this device's clock is {words} {which} the platform's"
    assert re.search(pattern, result["reason"]), result["reason"]
    bench.assert_nothing_is_left()


@pytest.mark.parametrize(("shift", "words"), [(HOUR, "60 minutes"), (400 * DAY, "400 days")])
def test_a_device_whose_clock_is_wrong_but_harmless_is_tested_with_a_warning(
    bench: Bench, clock: Clock, shift: int, words: str
) -> None:
    _with_clock_of_its_own(bench, clock)
    clock.shift(shift)
    done = bench.run("hil-test")
    assert (done.code, bench.result()["verdict"]) == (0, "passed"), done.err
    log = (bench.latest / "device-manager.log").read_text()
    assert re.search(rf"WARNING \[registration\] this device's clock is {words} ahead of the platform's", log), log
    bench.assert_nothing_is_left()
