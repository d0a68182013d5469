"""A run that failed, as a person might meet it: made up, always the same."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

from roboticks_tasks.events import AnyEvent, RunFinished, RunStarted, StepFinished, StepStarted
from roboticks_tasks.models import (
    Attachment,
    Composition,
    Provenance,
    PytestResult,
    RunResult,
    StepResult,
    TeardownPart,
    TeardownReport,
)
from roboticks_tasks.reporting.values import Case, Diagnosis, Finished, Level, Line, Source

BEGAN = 1795386851.8
"""2026-11-22 22:34:11 UTC."""

STEPS = (
    ("ensure_board", 0.412),
    ("ensure_binary", 1.338),
    ("ensure_backend", 0.274),
    ("launch_dm", 0.934),
    ("await_dsn", 2.207),
    ("await_session", 0.843),
    ("deploy", 3.244),
    ("pytest_session", 14.163),
    ("teardown", 1.131),
)

TESTS = BEGAN + sum(duration for _, duration in STEPS[:7]) + 0.6
"""When the first test began."""

TRACEBACK = """\
device = <Device SIM-E66AE66C>, power = <Power bench-3>

    def test_the_arm_comes_home_after_a_brownout(device, power):
        power.dip(volts=10.2, seconds=0.3)
>       device.wait_for("arm/state", "home", timeout=4.0)

tests/test_arm.py:48:
_ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _
E   TimeoutError: arm/state is "fault", not "home", after 4.0 s
"""


JOINTS = "t,j1,j2,j3\n0.0,0.1,0.2,0.3\n0.1,0.1,0.2,nan\n"


class Recorded:
    """A timeline that is held in memory."""

    def __init__(self, lines: Sequence[Line], cases: Sequence[Case] = ()) -> None:
        """Take lines in any order."""
        self.all = sorted(lines, key=lambda line: line.at)
        self.cases = {case.nodeid: case for case in cases}

    @property
    def lines(self) -> int:
        """Return how many lines there are."""
        return len(self.all)

    def slice_of(self, nodeid: str, *, most: int = 400, before: float = 2.0, after: float = 1.0) -> list[Line]:
        """Return the lines of a test."""
        case = self.cases.get(nodeid)
        if case is None or case.begin is None or case.end is None:
            return []
        return self.span(case.begin - before, case.end + after, most=most)

    def span(self, begin: float, end: float, *, most: int) -> list[Line]:
        """Return the last lines between two moments."""
        return [line for line in self.all if begin <= line.at <= end][-most:]

    def tail(self, source: Source, count: int) -> list[Line]:
        """Return the last lines of a source."""
        return [line for line in self.all if line.source == source][-count:]


def cases() -> tuple[Case, ...]:
    """Return the tests of the example: two failed, one is flaky, one was skipped, the others passed."""
    module = "tests/test_arm.py::"
    at = TESTS
    made: list[Case] = []

    def add(name: str, outcome: str, duration: float, **more: object) -> None:
        nonlocal at
        values = {
            "nodeid": name if "::" in name else module + name,
            "classname": "tests.test_arm",
            "name": name.rpartition("::")[2],
            "outcome": outcome,
            "duration": duration,
            "begin": at,
            "end": at + duration,
        }
        made.append(Case(**{**values, **more}))  # type: ignore[arg-type]
        at += duration

    add("test_the_arm_reports_its_joints", "passed", 0.412)
    add("test_the_arm_moves_to_a_pose[home]", "passed", 1.204)
    add("test_the_arm_moves_to_a_pose[reach]", "passed", 1.377)
    add(
        "test_the_arm_comes_home_after_a_brownout",
        "failed",
        4.618,
        message='TimeoutError: arm/state is "fault", not "home", after 4.0 s',
        detail=TRACEBACK,
        output="dipping bench-3 to 10.2 V for 0.3 s\nwaiting for arm/state == home\n",
        file="tests/test_arm.py",
        line=48,
        attachments=(
            Attachment(
                name="camera.png", path="attachments/brownout/camera.png", media_type="image/png", size=len(png(96, 54))
            ),
            Attachment(
                name="joints.csv", path="attachments/brownout/joints.csv", media_type="text/csv", size=len(JOINTS)
            ),
        ),
    )
    add(
        "test_the_gripper_lets_go_when_the_arm_faults",
        "error",
        0.731,
        message="RuntimeError: the arm is in fault, clear it first",
        detail=">       device.call('arm/arm', timeout=1)\nE       RuntimeError: the arm is in fault, clear it first\n",
        file="tests/conftest.py",
        line=19,
    )
    add("test_the_gripper_holds_its_force", "passed", 2.103, attempts=2)
    add("test_the_gripper_sees_slip", "skipped", 0.0, message="needs a board with feature 'tactile'")
    for number in range(1, 9):
        add(f"tests/test_bus.py::test_a_topic_keeps_its_rate[{number}00Hz]", "passed", 0.2)
    add("tests/test_bus.py::test_a_late_subscriber_gets_the_last_message", "passed", 0.318)
    return tuple(made)


def lines() -> list[Line]:
    """Return what was said while the tests ran."""
    made: list[Line] = []

    def say(at: float, source: Source, text: str, level: Level | None = None) -> None:
        made.append(Line(at=at, source=source, text=text, level=level))

    at = BEGAN
    for name, duration in STEPS:
        say(at, "lifecycle", f"{name} began")
        say(at + duration, "lifecycle", f"{name} ok", "info")
        at += duration
    for case in cases():
        assert case.begin is not None
        assert case.end is not None
        say(case.begin, "test", f"{case.nodeid} began")
        say(case.end, "test", f"{case.nodeid} {case.outcome}", "error" if case.outcome == "failed" else None)
    for number in range(60):
        say(TESTS + number * 0.21, "bus", f'heartbeat {{"seq": {number}, "load": 0.{31 + number % 7}}}', "debug")
    broken = cases()[3].begin or 0.0
    say(broken + 0.02, "target", "power dip --volts 10.2 --seconds 0.3  →  0")
    say(broken + 0.31, "console", "[   41.204417] can0: bus-off, restarting in 100 ms", "warning")
    say(broken + 0.33, "device", "WARN [arm] supply 10.2 V is below 11.0 V", "warning")
    say(broken + 0.34, "device", "ERROR [arm] joint 3: encoder lost its index, entering fault", "error")
    say(broken + 0.35, "bus", 'arm/state {"state": "fault", "joint": 3}')
    say(broken + 0.44, "console", "[   41.338120] can0: restarted")
    say(broken + 1.02, "device", "INFO [arm] supply is back at 12.1 V", "info")
    say(broken + 1.03, "device", "INFO [arm] waits for a command to clear the fault", "info")
    say(broken + 1.50, "platform", "health of SIM-E66AE66C: degraded", "warning")
    return made


def diagnosis() -> Diagnosis:
    """Return what the run comes to."""
    told = [line for line in lines() if "encoder" in line.text or "below 11.0" in line.text]
    return Diagnosis(
        cause="change",
        sentence="The change is at fault: the arm stays in fault after a brownout, and the device says “joint 3: "
        "encoder lost its index”.",
        advice="Since commit 4be1d9a02c77 the arm waits for a command to clear the fault; the test passed on this "
        "board in the 31 runs before.",
        evidence=tuple(told),
    )


def finished() -> Finished:
    """Return the run."""
    parts = ("tests", "session", "device manager", "log", "telemetry", "processes", "power")
    steps, events, at = [], [RunStarted(run_id="20261122T223411-caeaa703", profile="jetson", at=BEGAN)], BEGAN
    everything: list[AnyEvent] = [*events]
    for name, duration in STEPS:
        everything.append(StepStarted(name=name, at=at))
        at += duration
        everything.append(StepFinished(name=name, outcome="ok", duration=duration, at=at))
        steps.append(StepResult(name=name, outcome="ok", duration=duration))
    reason = "2 of 16 tests failed"
    everything.append(
        RunFinished(
            run_id="20261122T223411-caeaa703", verdict="failed", exit_code=1, reason=reason, duration=24.5, at=at
        )
    )
    result = RunResult(
        run_id="20261122T223411-caeaa703",
        profile="jetson",
        verdict="failed",
        exit_code=1,
        reason=reason,
        started_at="2026-11-22T22:34:11.800+00:00",
        duration=24.546,
        steps=tuple(steps),
        dsn="SIM-E66AE66C",
        session_id="dca54439-979a-48ae-bbf9-ff168c403741",
        compositions=(Composition(name="ArmComposition", mode="prod", status="running"),),
        tests=PytestResult(exit_code=1, junit="results.xml", passed=13, failed=1, errors=1, skipped=1, duration=14.0),
        teardown=TeardownReport(
            parts=tuple(TeardownPart(name=part, ok=True, detail="confirmed", duration=0.16) for part in parts)
        ),
        board_id="bench-3",
        provenance=Provenance(
            commit="4be1d9a02c77f1a3b0d2c9e8f7a6b5c4d3e2f1a0",
            is_dirty=False,
            branch="arm-fault-latch",
            pull_request=418,
            ci="github-actions",
            url="https://github.com/acme/arm/actions/runs/1234567890",
            job="hil",
        ),
    )
    return Finished(result=result, events=tuple(everything), cases=cases())


def attach(artifacts: Path) -> None:
    """Write the files that the tests have attached."""
    folder = artifacts / "attachments" / "brownout"
    folder.mkdir(parents=True)
    (folder / "camera.png").write_bytes(png(96, 54))
    (folder / "joints.csv").write_text(JOINTS)
    for name in ("timeline.jsonl", "device-manager.log", "console.log", "results.xml", "result.json"):
        (artifacts / name).write_text("\n")


def png(width: int, height: int) -> bytes:
    """Return a picture of a slope in grey."""
    rows = b"".join(b"\0" + bytes((x * 2 + y * 3) % 256 for x in range(width)) for y in range(height))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
