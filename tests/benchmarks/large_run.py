"""The folder of a large run, made up: many tests, logs of many megabytes, as a device that talks a lot leaves them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from xml.sax.saxutils import quoteattr

import msgspec

from roboticks_tasks import state
from roboticks_tasks.events import CaseFinished, CaseStarted, RunStarted, StepFinished, StepStarted, write_jsonl
from roboticks_tasks.models import Dsn, PytestResult, RunResult, Session, StepResult, TeardownReport

BEGIN = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC).timestamp()
EACH = 0.1
"""Seconds that a test takes."""

WORDS = "the planner has sent a trajectory of 42 points to the arm controller, deviation 0.0013 rad"


def write_large_run(folder: Path, *, tests: int = 5000, megabytes: int = 100, failing: int = 25) -> None:
    """Write the folder of a finished run of `tests` tests, of which `failing` failed, with `megabytes` of logs."""
    folder.mkdir(parents=True, exist_ok=True)
    failed = {number * tests // failing + 7 for number in range(failing)}
    _write_results(folder, tests, failed)
    _write_events(folder, tests, failed)
    size = megabytes * 1_000_000
    _write_log(folder / "device-manager.log", size * 7 // 10, tests * EACH, _device_line)
    _write_log(folder / "console.log", size * 3 // 10, tests * EACH, _console_line)


def _write_results(folder: Path, tests: int, failed: set[int]) -> None:
    with (folder / "pytest.xml").open("w", encoding="utf-8") as stream:
        stream.write('<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests">')
        stream.write(f'<testsuite name="pytest" errors="0" failures="{len(failed)}" skipped="0" tests="{tests}">')
        for number in range(tests):
            stream.write(f'<testcase classname="tests.test_arm" name="test_move[{number}]" time="{EACH}"')
            if number in failed:
                message = f"assert 0.0{number} < 0.001: <the arm> & its deviation"
                stream.write(f"><failure message={quoteattr(message)}>E   {WORDS}</failure></testcase>")
            else:
                stream.write(" />")
        stream.write("</testsuite></testsuites>")


def _write_events(folder: Path, tests: int, failed: set[int]) -> None:
    tell = write_jsonl(folder / "events.jsonl")
    tell(RunStarted(at=BEGIN - 2, run_id="20260301T115958-00000000", profile="arm"))
    steps = []
    for name, begin, duration in (
        ("ensure_board", -2.0, 0.1),
        ("launch_dm", -1.9, 0.4),
        ("await_dsn", -1.5, 0.5),
        ("await_session", -1.0, 0.2),
        ("deploy", -0.8, 0.8),
        ("pytest_session", 0.0, tests * EACH),
        ("teardown", tests * EACH, 0.5),
    ):
        tell(StepStarted(at=BEGIN + begin, name=name, timeout=30))
        tell(StepFinished(at=BEGIN + begin + duration, name=name, outcome="ok", duration=duration))
        steps.append(StepResult(name=name, outcome="ok", duration=duration))
    with (folder / "tests.jsonl").open("wb") as stream:
        for number in range(tests):
            begin = BEGIN + number * EACH
            nodeid = f"tests/test_arm.py::test_move[{number}]"
            stream.write(msgspec.json.encode(CaseStarted(at=begin, nodeid=nodeid)) + b"\n")
            end = CaseFinished(
                at=begin + EACH,
                nodeid=nodeid,
                classname="tests.test_arm",
                name=f"test_move[{number}]",
                outcome="failed" if number in failed else "passed",
                begin=begin,
                duration=EACH,
                file="tests/test_arm.py" if number in failed else None,
                line=12 if number in failed else None,
            )
            stream.write(msgspec.json.encode(end) + b"\n")
    counts = PytestResult(
        exit_code=1,
        junit=str(folder / "pytest.xml"),
        passed=tests - len(failed),
        failed=len(failed),
        errors=0,
        skipped=0,
        duration=tests * EACH,
    )
    started = datetime.fromtimestamp(BEGIN - 2, UTC).isoformat(timespec="milliseconds")
    run = state.RunState(
        run_id="20260301T115958-00000000",
        profile="arm",
        started_at=started,
        board_id="arm-1",
        steps=tuple(steps),
        dsn=Dsn(value="ARM-1", source="log"),
        session=Session(id="0c7ee4a3-5a1e-4b7e-8a52-0d9a9f3b6f10", dsn="ARM-1", source="log"),
        tests=counts,
        teardown=TeardownReport(),
    )
    result = RunResult(
        run_id=run.run_id,
        profile="arm",
        verdict="failed",
        exit_code=1,
        reason=f"{len(failed)} of {tests} tests failed",
        started_at=started,
        duration=tests * EACH + 2.5,
        steps=tuple(steps),
        dsn="ARM-1",
        session_id=run.session.id if run.session else None,
        tests=counts,
        teardown=TeardownReport(),
        board_id="arm-1",
    )
    state.save(folder, run)
    state.save_result(folder, result)


def _write_log(path: Path, size: int, seconds: float, line: Callable[[int, float], str]) -> None:
    """Write lines of `size` bytes in all, spread over the time of the tests."""
    count = size // len(line(0, 0.0))
    with path.open("w", encoding="utf-8") as stream:
        for number in range(count):
            stream.write(line(number, number / count * seconds))


def _device_line(number: int, offset: float) -> str:
    moment = datetime.fromtimestamp(BEGIN + offset, UTC).isoformat(timespec="microseconds")[:-6]
    level = "ERROR" if number % 10_007 == 0 else "WARN " if number % 1_009 == 0 else "INFO "
    return f"{moment}Z {level} [arm] {WORDS} ({number:08})\n"


def _console_line(number: int, offset: float) -> str:
    moment = datetime.fromtimestamp(BEGIN + offset, UTC).isoformat(timespec="milliseconds")[:-6]
    return f"{5000 + offset:.6f} {moment}Z [{offset:12.6f}] usb 1-1: {WORDS} ({number:08})\n"
