"""The platform fails under a run: one sentence, `backend-error`, the exit code of the step, and nothing is left."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from roboticks_tasks import processes
from tests.contract.authorities import WebAuthorities
from tests.contract.bad_server import OK, Behave, answer, answering, dripping, flooding, hanging, misbehaving
from tests.contract.platform_process import running
from tests.e2e.bench import Bench

STEPS = ("ensure-binary", "launch-dm", "await-dsn", "await-session", "deploy", "pytest-session")
HELLO = "pytest --pyargs roboticks_tasks.sim.hello_world.hil -p no:anyio -p no:schemathesis -k registered"

NATIVE = """
backend = "{url}"
organization = "acme"
project = "rover"
[target]
kind = "local"
[device_manager]
kind = "native"
root = "robot"
source = {{ {source} }}
[session]
request = "platform"
[timeouts]
launch = 0.2
dsn = 5
session = 0.8
binary = 0.7
"""
MANAGER = "#!/bin/sh\n[ $# = 0 ] || exit 0\necho 'Registered with DSN: WR-001'\nexec sleep 600\n"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    one = Bench(tmp_path)
    try:
        yield one
        one.assert_nothing_is_left()
    finally:
        one.kill_everything()


def platform_of(bench: Bench) -> int:
    """Return the process id of the bench's local platform."""
    return int(json.loads((bench.folder / ".roboticks" / "platform" / "platform.json").read_text())["pid"])


def assert_blamed(bench: Bench, step: str, code: int, words: str, *, test: str = HELLO) -> None:
    """Run a step that must fail, and quickly, with this exit code and these words about the platform."""
    done = bench.run(step, "--test-command", test, "--timeout-multiplier", "0.03")
    last = bench.state()["steps"][-1]
    assert (done.code, last["verdict"]) == (code, "backend-error"), last
    assert words in last["error"]


BROKEN = [
    (
        "other authority",
        answer("201 Created"),
        "its certificate is signed by Elsewhere, which this machine does not trust",
    ),
    ("not yet valid", answer("201 Created"), "set the clock"),
    ("good", dripping(OK + b"X-Slow: "), "it gave no whole answer in time"),
    ("good", flooding(OK + b"\r\n"), "its answer is larger than 16 MB|no whole answer in time"),
    ("good", answering(OK + b'Content-Length: 100\r\n\r\n{"command_id": '), "it hung up in the middle of its answer"),
    ("good", answer("302 Found", b"", "Location: /again"), "was answered with a redirect"),
    ("good", answer("429 Too Many Requests", b"{}", "Retry-After: 60"), "refused with 429"),
]


def test_a_broken_platform_fails_the_session_with_what_was_seen(bench: Bench, tmp_path: Path) -> None:
    """One device, one run folder, and a platform that is broken in a new way at each attempt."""
    authorities = WebAuthorities(tmp_path)
    (bench.folder / "dm").write_text(MANAGER)
    (bench.folder / "dm").chmod(0o755)
    with misbehaving(hanging(), tls=authorities.context("good")) as server:
        bench.profile("native", NATIVE.format(url=server.url, source='path = "dm"'))
        variables = {"REQUESTS_CA_BUNDLE": str(authorities.ca), "ROBOTICKS_API_KEY": "key"}
        common = ("--profile", "native")
        for step in STEPS[:3]:
            assert bench.run(step, *common, variables=variables).code == 0
        try:
            for kind, behave, words in BROKEN:
                server.tls, server.behave = authorities.context(kind), behave
                done = bench.run("await-session", *common, variables=variables)
                last = bench.state(bench.latest_of("native"))["steps"][-1]
                assert (done.code, last["verdict"]) == (13, "backend-error"), last
                assert re.search(words, done.sentence), done.sentence
                assert server.url in done.sentence
                assert last["duration"] < 5, "within the step's time and a look at the platform"
        finally:
            assert bench.run("teardown", *common, variables=variables).code == 0


@pytest.mark.parametrize(
    ("behave", "words"),
    [
        (dripping(OK + b"Content-Length: 100000\r\n\r\n"), "did not arrive within 0.7 s"),
        (answering(OK + b"Content-Length: 99999999999\r\n\r\n"), "it has 99999999999 bytes, more than"),
        (answer("302 Found", b"", "Location: /again"), "it redirects in a circle"),
        (answer("404 Not Found"), "could not be downloaded: 404 Not Found"),
    ],
    ids=["drips", "too large", "circle", "404"],
)
def test_a_binary_that_does_not_come_is_the_servers_fault(bench: Bench, behave: Behave, words: str) -> None:
    with misbehaving(behave) as server:
        bench.profile("native", NATIVE.format(url=server.url, source=f'url = "{server.url}/dm"'))
        done = bench.run(
            "ensure-binary", "--profile", "native", variables={"XDG_CACHE_HOME": str(bench.folder / "cache")}
        )
    assert done.code == 10
    assert words in done.sentence
    assert bench.state(bench.latest_of("native"))["steps"][-1]["verdict"] == "backend-error"


def test_a_platform_that_is_killed_is_blamed_by_the_steps_and_by_the_next_run_that_loses_it(bench: Bench) -> None:
    """What is known already needs no platform; launch-dm starts it again, and so does a whole run."""
    assert bench.run("ensure-binary").code == 0
    for before, step, code in ((STEPS[1:2], "await-dsn", 12), (STEPS[1:3], "await-session", 13)):
        for each in before:
            assert bench.run(each).code == 0
        pid = platform_of(bench)
        os.kill(pid, signal.SIGKILL)
        assert_blamed(bench, step, code, f"the local platform (pid {pid}) has ended")
    loses = "import os\ndef test_it(roboticks_run):\n    os.kill(roboticks_run.backend.pid, 9)\n"
    asks = "def test_asks(platform, session):\n    platform.session(session.id)\n"
    (bench.folder / "test_loses.py").write_text(loses + asks)
    done = bench.run("hil-test", "--test-command", "pytest test_loses.py -p no:schemathesis")
    result = bench.result()
    assert (done.code, result["exit_code"], result["verdict"]) == (15, 15, "backend-error"), result["reason"]
    assert "the platform was lost while the tests ran (1 passed, 1 failed)" in result["reason"]
    assert "\n" not in result["reason"]


def test_a_platform_that_is_stopped_is_blamed_for_the_tests_and_the_next_run_is_green(bench: Bench) -> None:
    """A connection that is taken and never answered: the steps, and the teardown, end in their own time."""
    for step in STEPS[:4]:
        assert bench.run(step).code == 0
    pid, first = platform_of(bench), bench.latest
    (bench.folder / "test_fails.py").write_text("def test_fails():\n    assert False\n")
    os.kill(pid, signal.SIGSTOP)
    words = f"the local platform (pid {pid}) runs but does not answer"
    assert_blamed(bench, "pytest-session", 15, words, test="pytest test_fails.py -p no:schemathesis")
    done = bench.run("hil-test", "--test-command", HELLO)
    assert done.code == 0, done.err
    torn_down = bench.state(first)["teardown"]["parts"]
    assert all(part["ok"] for part in torn_down), torn_down
    assert sum(part["duration"] for part in torn_down) < 9, "its 8 seconds, and the kill"
    assert processes.start_time(pid) is None, torn_down


def test_a_platform_of_people_that_was_stopped_is_named_and_left_to_them(bench: Bench) -> None:
    folder = bench.folder / ".roboticks" / "platform"
    folder.parent.mkdir()
    with running(folder, "--broker", "builtin") as platform:
        pid = platform.process.pid
        os.kill(pid, signal.SIGSTOP)
        done = bench.run("hil-test")
        result = bench.result()
        assert (done.code, result["verdict"]) == (11, "backend-error"), result["reason"]
        assert f"the local platform (pid {pid}) runs but does not answer" in result["reason"]
        assert result["reason"].endswith(f"`kill -KILL {pid}`: the next run starts it afresh")
        assert platform.process.poll() is None
