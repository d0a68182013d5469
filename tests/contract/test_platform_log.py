"""What the platform has of a session is in the run's folder; a platform that is ill costs a teardown little."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from roboticks_tasks.errors import BackendError
from roboticks_tasks.lifecycle.support import platform_log
from roboticks_tasks.lifecycle.support.platform_log import Keeping, keep_platform_log
from roboticks_tasks.models import BackendRef, Session
from roboticks_tasks.redaction import Redactor
from roboticks_tasks.waiting import Deadline
from tests.contract.http_server import Answer, serving
from tests.contract.platform_process import Device, Platform, entry, running

SESSION = Session(id="s1", dsn="D1", source="platform")
MOMENT = 1_700_000_000


def reference(platform: Platform) -> BackendRef:
    key = str(platform.folder / "api-key")
    return BackendRef(url=platform.ready["url"], organization="local", project="local", api_key_file=key)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "platform.jsonl").read_bytes().splitlines()]


def test_the_log_of_a_session_is_kept_whole_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform_log, "PAGE", 4)
    messages = [entry(f"number {number}", at=(MOMENT + number // 3) * 1_000_000) for number in range(10)]
    messages.append(entry("the key is hush-hush", at=(MOMENT + 5) * 1_000_000, level="ERROR"))
    with running(tmp_path / "platform") as platform:
        device = Device(platform, tmp_path / "keys", "ROBOT-1")
        with device.connected() as connection:
            connection.heartbeat()
            session = Session(id=connection.create()["session_id"], dsn=device.dsn, source="log")
            connection.log(*messages, session=session.id)
            connection.settle()
            said = keep_platform_log(
                reference(platform), session, tmp_path, Deadline(20), redactor=Redactor(["hush-hush"])
            )
    found = lines(tmp_path)
    log = [line for line in found if line["text"].startswith("[arm]")]
    assert [line["text"] for line in log] == [f"[arm] number {number}" for number in range(10)] + [
        "[arm] the key is ***"
    ]
    assert [line["at"] for line in log] == [MOMENT + number // 3 for number in range(10)] + [MOMENT + 5]
    assert {line["clock"] for line in log} == {"board"}
    assert (log[0]["level"], log[-1]["level"]) == ("info", "error")
    texts = [line["text"] for line in found if line not in log]
    assert texts[:2] == [f"session {session.id} began", f"session {session.id} is active"]
    assert texts[2].startswith(f"device {device.dsn} is online")
    assert said == f"{len(found)} lines"


def test_a_platform_that_does_not_answer_costs_little_and_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROBOTICKS_API_KEY", "key-key-key")
    monkeypatch.setattr(platform_log, "SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        backend = BackendRef(url=f"http://127.0.0.1:{deaf.getsockname()[1]}", organization="o", project="p")
        keeping = Keeping(backend, SESSION, tmp_path, deadline=Deadline(100))
        assert "not" in keeping.wait()
    assert list(tmp_path.iterdir()) == []


def test_a_platform_that_refuses_is_no_error_and_what_was_kept_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROBOTICKS_API_KEY", "key-key-key")
    (tmp_path / "platform.jsonl").write_text("earlier\n")
    with serving() as server:
        server.answer = lambda request: Answer(500, b"{}")
        backend = BackendRef(url=server.url, organization="o", project="p")
        with pytest.raises(BackendError):
            keep_platform_log(backend, SESSION, tmp_path, Deadline(5))
        assert Keeping(backend, SESSION, tmp_path, deadline=Deadline(100)).wait().startswith("not kept: GET ")
    assert (tmp_path / "platform.jsonl").read_text() == "earlier\n"


def test_without_a_key_the_platform_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROBOTICKS_API_KEY", raising=False)
    said = keep_platform_log(BackendRef(url="http://127.0.0.1:1"), SESSION, tmp_path, Deadline(5))
    assert said == "not known: the platform cannot be asked without a key"


@pytest.mark.parametrize(
    "page",
    [
        [1, None, "x", {}, {"timestamp": None}, {"timestamp": "yesterday", "message": 1}],
        [{"timestamp": "2023-11-14T22:13:20", "message": {"a": 1}, "level": 5, "module": ["m"]}] * 5,
        [{"timestamp": "2023-11-14T22:13:20+00:00", "message": "\ud800"}] * 5,
    ],
)
def test_any_answer_comes_to_an_end(page: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBOTICKS_API_KEY", "key-key-key")
    monkeypatch.setattr(platform_log, "PAGE", 5)
    with serving() as server:
        server.answer = lambda request: Answer(200, json.dumps(page if "/logs" in request.path else {}).encode())
        backend = BackendRef(url=server.url, organization="o", project="p")
        assert Keeping(backend, SESSION, tmp_path, deadline=Deadline(100)).wait()
        assert len(server.requests) < 6
