"""A suite that is broken in five ways: each time the report's first sentence says who is to blame."""

from __future__ import annotations

import html
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pytest

from tests.conditions import until
from tests.contract.pty_board import running_board
from tests.e2e.bench import Bench

BROKEN = Path(__file__).parent / "broken"

PROFILE = """
backend = "local"
[device_manager]
kind = "simulated"
root = ".roboticks/device"
[deployment]
path = "{deployment}"
[tests]
command = "pytest -q -p no:cacheprovider {options} {test}"
timeout = 60
"""


class Expected(NamedTuple):
    """What a run has to say: exit code, verdict, what is wrong in the suite of its steps, who is to blame, in words."""

    code: int
    verdict: str
    steps: set[str]
    cause: str
    sentence: str


def run_broken(bench: Bench, name: str, *, options: str = "", more: str = "") -> int:
    """Run one of the broken suites on a bench of profile sim's kind, and return the exit code."""
    test = BROKEN / "hil" / f"{name}.py"
    text = PROFILE.format(deployment=BROKEN / "deployment", options=options, test=test)
    bench.profile("broken", text + more)
    return bench.run("hil-test", "--profile", "broken").code


def with_bug(bench: Bench) -> int:
    return run_broken(bench, "product")


def with_flaky_test(bench: Bench) -> int:
    return run_broken(bench, "flaky", options="--reruns 2")


def with_flaky_test_in_history(bench: Bench) -> int:
    """The same commit, three runs: red, green, red."""
    (bench.folder / ".gitignore").write_text("*\n")
    for words in (["init", "-q"], ["add", "-f", ".gitignore"], ["commit", "-q", "-m", "begin"]):
        identity = ["-c", "user.name=robot", "-c", "user.email=robot@example.com"]
        subprocess.run(["git", *identity, *words], cwd=bench.folder, check=True)
    codes = [run_broken(bench, "flaky") for _ in range(3)]
    assert codes == [1, 0, 1]
    return codes[-1]


def with_dead_device_manager(bench: Bench) -> int:
    return run_broken(bench, "dead_device_manager")


def with_unplugged_console(bench: Bench) -> int:
    with running_board(bench.folder / "pty") as board:
        console = f'[[boards]]\nid = "lab-7"\nconsole = {{ port = "{board.port}", baudrate = 115200 }}\n'
        test = BROKEN / "hil" / "unplugged_console.py"
        text = PROFILE.format(deployment=BROKEN / "deployment", options="", test=test)
        bench.profile("broken", text + console)
        run = bench.popen("hil-test", "--profile", "broken")
        until((bench.folder / "pull").exists, what="the test listens to the console")
        board.unplug()
        run.communicate(timeout=60)
        return run.returncode


def with_unreachable_platform(bench: Bench) -> int:
    return run_broken(bench, "unreachable_platform")


@pytest.mark.parametrize(
    ("breakage", "expected"),
    [
        (
            with_bug,
            Expected(
                1,
                "failed",
                set(),
                "change",
                r"The change is to blame: \S+product\.py::test_greetings_come_without_a_gap failed \(line \d+\): "
                r"'assert \[[^']*'; the device said 'ERROR \[greeter\] greeting \d+ is lost: the queue of the voice is "
                r"full' (as|\d\.\d s (before|after)) it failed",
            ),
        ),
        (
            with_flaky_test,
            Expected(
                0,
                "passed",
                set(),
                "test",
                r"The test \S+flaky\.py::test_that_comes_and_goes is flaky: it passed only at attempt 2; "
                r"2 tests passed",
            ),
        ),
        (
            with_flaky_test_in_history,
            Expected(
                1,
                "failed",
                set(),
                "test",
                r"The test \S+flaky\.py::test_that_comes_and_goes is flaky, it is not the change: it failed in 1 of 2 "
                r"other runs of this same commit, on 1 board",
            ),
        ),
        (
            with_dead_device_manager,
            Expected(
                15,
                "bench-error",
                {"error"},
                "bench",
                r"The bench \(broken\) is to blame, not the change: the device manager ended while the tests ran "
                r"\(0 passed, 1 failed\): its last log line: '[^']*'; "
                r"the first test that failed was \S+dead_device_manager\.py::test_greetings_go_on",
            ),
        ),
        (
            with_unplugged_console,
            Expected(
                15,
                "bench-error",
                {"error"},
                "bench",
                r"The bench \(lab-7\) is to blame, not the change: the console was lost while the tests ran "
                r"\(0 passed, 1 failed\): [^:;]*; "
                r"the first test that failed was \S+unplugged_console\.py::test_the_board_says_something",
            ),
        ),
        (
            with_unreachable_platform,
            Expected(
                15,
                "backend-error",
                {"error"},
                "platform",
                r"The platform is to blame, not the change: the platform was lost while the tests ran "
                r"\(0 passed, 1 failed\): the local platform \(pid \d+\) has ended; "
                r"the first test that failed was \S+unreachable_platform\.py::test_the_platform_knows_the_session",
            ),
        ),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_the_first_sentence_says_who_is_to_blame(
    bench: Bench, breakage: Callable[[Bench], int], expected: Expected
) -> None:
    code = breakage(bench)

    folder = bench.latest_of("broken")
    result = json.loads((folder / "result.json").read_text())
    assert (code, result["exit_code"], result["verdict"]) == (expected.code, expected.code, expected.verdict), result
    assert (result["cause"], bool(re.fullmatch(expected.sentence, result["diagnosis"]))) == (expected.cause, True), (
        result
    )
    assert kinds(folder / "lifecycle.xml") == expected.steps
    assert kinds(folder / "pytest.xml") == ({"failure"} if code else set())
    assert kinds(folder / "results.xml") == kinds(folder / "lifecycle.xml") | kinds(folder / "pytest.xml")
    page = html.unescape(re.sub(r"<[^>]*>", "", (folder / "report.html").read_text()))
    assert result["diagnosis"] in page


def kinds(path: Path) -> set[str]:
    """Return what a JUnit file holds of the two kinds of red."""
    root = ElementTree.parse(path)
    return {kind for kind in ("failure", "error") if root.find(f".//{kind}") is not None}
