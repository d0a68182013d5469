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
dsn = 5
session = 1.5
binary = 1.5
"""
MANAGER = "#!/bin/sh\necho 'Registered with DSN: WR-001'\nexec sleep 600\n"


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


def failed_step(bench: Bench, step: str) -> tuple[int, str, str]:
    """Run a step that must fail; return its code, its verdict and its reason."""
    done = bench.run(step, "--test-command", HELLO, "--timeout-multiplier", "0.08")
    last = bench.state()["steps"][-1]
    return done.code, last["verdict"], last["error"]


BROKEN = [
    (
        "other authority",
        answer("201 Created"),
        "its certificate is signed by Elsewhere, which this machine does not trust",
    ),
    ("other host", answer("201 Created"), "its certificate is not valid for localhost, only for elsewhere.example"),
    ("expired", answer("201 Created"), "its certificate expired on 20"),
    ("not yet valid", answer("201 Created"), "set the clock"),
    ("good", hanging(), "no whole answer in time|does not answer"),
    ("good", dripping(OK + b"X-Slow: "), "it gave no whole answer in time"),
    ("good", flooding(OK + b"\r\n"), "its answer is larger than 16 MB|no whole answer in time"),
    ("good", answering(OK + b'Content-Length: 100\r\n\r\n{"command_id": '), "it hung up in the middle of its answer"),
    ("good", answer("302 Found", b"", "Location: /again"), "was answered with a redirect"),
    ("good", answer("429 Too Many Requests", b"{}", "Retry-After: 60"), "refused with 429"),
    ("good", answer("503 Service Unavailable"), "refused with 503"),
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
                assert last["duration"] < 5, "within the step's 1.5 s and a look at the platform"
        finally:
            assert bench.run("teardown", *common, variables=variables).code == 0


@pytest.mark.parametrize(
    ("behave", "words"),
    [
        (hanging(), "did not arrive within 1.5 s"),
        (dripping(OK + b"Content-Length: 100000\r\n\r\n"), "did not arrive within 1.5 s"),
        (answering(OK + b"Content-Length: 99999999999\r\n\r\n"), "it has 99999999999 bytes, more than"),
        (answer("302 Found", b"", "Location: /again"), "it redirects in a circle"),
        (answer("404 Not Found"), "could not be downloaded: 404 Not Found"),
    ],
    ids=["hangs", "drips", "too large", "circle", "404"],
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


@pytest.mark.parametrize("before", ["await-dsn", "await-session", "pytest-session"])
def test_a_platform_that_is_killed_before_a_step_is_blamed_by_it(bench: Bench, before: str) -> None:
    for step in STEPS[: STEPS.index(before)]:
        assert bench.run(step).code == 0
    pid = platform_of(bench)
    os.kill(pid, signal.SIGKILL)
    code, verdict, reason = failed_step(bench, before)
    expected = {"await-dsn": 12, "await-session": 13, "pytest-session": 15}[before]
    # What is known already needs no platform: the device has registered before it died.
    assert (code, verdict) == (expected, "backend-error"), reason
    assert f"the local platform (pid {pid}) has ended" in reason
    assert bench.run("teardown").code == 0


def test_a_platform_that_is_stopped_is_blamed_by_each_step_and_the_run_goes_on_when_it_does(bench: Bench) -> None:
    """A connection that is taken and never answered: the steps end in their own time, and can be repeated."""
    assert bench.run("ensure-binary").code == 0
    assert bench.run("launch-dm").code == 0
    assert bench.run("await-dsn").code == 0
    pid = platform_of(bench)
    for step, code in (("launch-dm", 11), ("await-session", 13), ("pytest-session", 15)):
        if step == "pytest-session":
            assert bench.run("deploy").code == 0
        os.kill(pid, signal.SIGSTOP)
        try:
            found, verdict, reason = failed_step(bench, step)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert (found, verdict) == (code, "backend-error"), (step, reason)
        if step == "launch-dm":
            assert bench.run("await-dsn").code == 0
        elif step == "await-session":
            assert bench.run(step).code == 0
    os.kill(pid, signal.SIGSTOP)
    done = bench.run("teardown")
    assert done.code in {0, 17}, done.err
    assert bench.state()["steps"][-1]["duration"] < 9, "its 8 seconds, and the kill"
    assert processes.start_time(pid) is None, bench.state()["teardown"]


ASKS = "def test_asks(platform, session):\n    platform.session(session.id)\n"
FAILS = "def test_fails():\n    assert False\n"


@pytest.mark.parametrize(
    ("number", "test"), [(signal.SIGKILL, ASKS), (signal.SIGSTOP, FAILS)], ids=["killed", "stopped"]
)
def test_a_platform_that_is_lost_under_the_tests_is_blamed_and_not_the_change(
    bench: Bench, number: signal.Signals, test: str
) -> None:
    loses = f"import os\ndef test_it(roboticks_run):\n    os.kill(roboticks_run.backend.pid, {int(number)})\n"
    (bench.folder / "test_loses.py").write_text(loses + test)
    done = bench.run("hil-test", "--test-command", "pytest test_loses.py -p no:schemathesis")
    result = bench.result()
    assert (done.code, result["exit_code"], result["verdict"]) == (15, 15, "backend-error"), result["reason"]
    assert "the board or its platform was lost while the tests ran (1 passed, 1 failed)" in result["reason"]
    assert "\n" not in result["reason"]
    assert sum(step["duration"] for step in result["steps"] if step["name"] == "teardown") < 9


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_the_next_run_after_a_lost_platform_is_green(bench: Bench, number: signal.Signals) -> None:
    assert bench.run("ensure-binary").code == 0
    assert bench.run("launch-dm").code == 0
    pid = platform_of(bench)
    os.kill(pid, number)
    done = bench.run("hil-test", "--test-command", HELLO)
    assert done.code == 0, done.err
    assert processes.start_time(pid) is None, bench.state()["teardown"]


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
