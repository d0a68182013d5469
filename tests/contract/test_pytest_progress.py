"""Live progress of the tests, against a real HTTP server: it is told what happens, and no test ever waits for it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from roboticks_tasks import state
from roboticks_tasks.events import CaseStarted
from roboticks_tasks.models import BackendRef
from roboticks_tasks.profiles import load_profile
from roboticks_tasks.pytest_plugin import progress as module
from roboticks_tasks.pytest_plugin.progress import Progress
from tests.conditions import until
from tests.contract.http_server import Answer, Request, Server, serving
from tests.unit.test_pytest_recording import run

ACCEPTED = Answer(202, b'{"accepted": 1}')


@pytest.fixture
def server() -> Iterator[Server]:
    """A platform that takes everything."""
    with serving() as one:
        one.answer = lambda request: ACCEPTED
        yield one


@pytest.fixture
def start(server: Server, tmp_path: Path) -> Iterator[Callable[[], Progress]]:
    """Start telling that platform of run r/1."""
    key = tmp_path / "key"
    key.write_text("a-key")
    started = []

    def begin() -> Progress:
        backend = BackendRef(url=server.url, organization="org", project="pro", api_key_file=str(key))
        started.append(Progress(backend, "r/1", total=lambda: 7))
        return started[-1]

    yield begin
    for each in started:
        each.close()


def told(server: Server) -> list[dict[str, Any]]:
    """Every event that has been sent."""
    return [event for request in list(server.requests) for event in json.loads(request.body)["events"]]


def test_events_are_sent_in_order_with_the_run_the_key_and_the_total(
    server: Server, start: Callable[[], Progress]
) -> None:
    progress = start()
    for number in range(450):
        progress(CaseStarted(nodeid=f"test_{number}"))
    progress.close()
    assert [event["nodeid"] for event in told(server)] == [f"test_{number}" for number in range(450)]
    first = server.requests[0]
    assert (first.method, first.path) == ("POST", "/api/v1/organizations/org/projects/pro/test-runs/r%2F1/progress")
    assert first.headers["authorization"] == "Bearer a-key"
    assert first.headers["content-type"] == "application/json"
    assert json.loads(first.body)["total"] == 7
    assert told(server)[0]["event"] == "case-started"
    assert progress.complaint is None


def test_what_happens_is_sent_while_the_tests_go_on(server: Server, start: Callable[[], Progress]) -> None:
    start()(CaseStarted(nodeid="test_a"))
    until(lambda: told(server), "the event is sent before the session ends")


@pytest.mark.parametrize(("status", "complains"), [(404, False), (405, False), (401, True), (403, True)])
def test_a_platform_that_does_not_take_it_is_asked_once(
    server: Server, start: Callable[[], Progress], status: int, complains: bool
) -> None:
    server.answer = lambda request: Answer(status)
    progress = start()
    progress(CaseStarted(nodeid="test_a"))
    until(lambda: not progress._thread.is_alive(), "it has given up")
    progress(CaseStarted(nodeid="test_b"))
    progress.close()
    assert len(server.requests) == 1
    assert progress.complaint == (
        f"the platform was not told of 2 test events: it answered {status}" if complains else None
    )


def test_after_three_failures_it_is_left_alone(server: Server, start: Callable[[], Progress]) -> None:
    server.answer = lambda request: Answer(503)
    progress = start()
    progress(CaseStarted(nodeid="test_a"))
    until(lambda: not progress._thread.is_alive(), "it has given up")
    assert len(server.requests) == 3
    assert "it answered 503" in str(progress.complaint)


def test_what_failed_once_is_sent_again(server: Server, start: Callable[[], Progress]) -> None:
    server.answer = lambda request: Answer(503) if len(server.requests) == 1 else ACCEPTED
    progress = start()
    progress(CaseStarted(nodeid="test_a"))
    until(lambda: len(server.requests) == 2, "it is tried again")
    progress.close()
    assert progress.complaint is None


def test_more_than_can_wait_is_dropped_and_told_in_one_line(
    server: Server, start: Callable[[], Progress], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 10)
    progress = start()
    for number in range(25):
        progress(CaseStarted(nodeid=f"test_{number}"))
    progress.close()
    assert progress.complaint == "the platform was not told of 15 test events: it takes them too slowly"


def test_a_platform_that_never_answers_holds_nobody_up(
    server: Server, start: Callable[[], Progress], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    release = threading.Event()

    def hang(request: Request) -> Answer:
        release.wait(20)
        return ACCEPTED

    server.answer = hang
    progress = start()
    progress(CaseStarted(nodeid="test_a"))
    until(lambda: server.requests, "it is asked")
    progress.close()
    assert progress._thread.is_alive()  # nobody has waited for it
    assert progress.complaint == "the platform was not told of 1 test events: it does not answer"
    release.set()


def test_a_session_of_pytest_tells_its_platform(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run_state = state.create(folder, load_profile("sim", environ={}))
    key = tmp_path / "key"
    key.write_text("a-key")
    backend = BackendRef(url=server.url, organization="org", project="pro", api_key_file=str(key))
    state.save(folder, msgspec.structs.replace(run_state, backend=backend))
    # What the thread needs has been imported before: what is warned of meanwhile pytest would take for the test's own.
    text = "import sys\ndef test_a(): assert hasattr(sys.modules['requests'], 'adapters')\ndef test_b(): assert 0\n"
    done = run(tmp_path, text, folder, "-W", "error", http_proxy="http://127.0.0.1:9")
    assert [(event["event"], event.get("outcome")) for event in told(server)] == [
        ("case-started", None),
        ("case-finished", "passed"),
        ("case-started", None),
        ("case-finished", "failed"),
    ]
    assert json.loads(server.requests[-1].body)["total"] == 2
    assert run_state.run_id in server.requests[0].path
    assert "not told" not in done.stdout
    server.answer = lambda request: Answer(401)
    done = run(tmp_path, text, folder)
    assert "roboticks: the platform was not told of 4 test events: it answered 401" in done.stdout
    assert "1 failed, 1 passed" in done.stdout
