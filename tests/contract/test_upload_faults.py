"""An upload and a bad network or platform: it is tried again where that may help, ends in time, and says what was."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from roboticks_tasks.backend import calls
from roboticks_tasks.upload import UploadReport, sending, upload_run, uploading
from roboticks_tasks.upload.files import RESULTS
from roboticks_tasks.upload.form import Form
from roboticks_tasks.waiting import Deadline
from tests.contract.bad_server import dripping, hanging, misbehaving
from tests.contract.finished_run import finished_run, remote_profile
from tests.contract.http_server import Answer, Request, Server, serving
from tests.contract.platform_process import Platform, running
from tests.contract.tcp_proxy import TcpProxy, running_proxy

KEY = "rbtk_of_the_platform"


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pauses be short, and little time be enough to begin."""
    monkeypatch.setattr(calls, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(sending, "READ", 0.5)
    monkeypatch.setattr(uploading, "SHORTEST", 0.0)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running(tmp_path_factory.mktemp("faults") / "platform", "--broker", "builtin") as platform:
        yield platform
        assert "Traceback" not in platform.log


@pytest.fixture
def proxy(platform: Platform) -> Iterator[TcpProxy]:
    with running_proxy(int(platform.ready["url"].rpartition(":")[2])) as proxy:
        yield proxy


def send(artifacts: Path, url: str, key: str = KEY, *, seconds: float = 20, files: bool = True) -> UploadReport:
    return upload_run(
        artifacts,
        remote_profile(url),
        environ={"ROBOTICKS_API_KEY": key},
        deadline=Deadline(seconds),
        asked=True,
        files=files,
    )


def during_a_body(monkeypatch: pytest.MonkeyPatch, happen: Callable[[int], None], *, after: int) -> None:
    """Have something happen once in each body that is larger, when `after` bytes of it are on their way."""
    read, bodies = Form.read, list[Form]()

    def instrumented(self: Form, size: int = -1) -> bytes:
        chunk = read(self, size)
        self.sent = getattr(self, "sent", 0) + len(chunk)  # type: ignore[attr-defined]
        if self.sent > after and self not in bodies:  # type: ignore[attr-defined]
            bodies.append(self)
            happen(len(bodies))
        return chunk

    monkeypatch.setattr(Form, "read", instrumented)


def test_a_connection_that_is_cut_in_a_file_is_made_again(
    platform: Platform, proxy: TcpProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://127.0.0.1:{proxy.port}"
    run = finished_run(tmp_path / "run", remote_profile(url), size=3_000_000)
    cuts = list[int]()

    def cut_the_first(number: int) -> None:
        if number in {1, 3}:
            cuts.append(number)
            proxy.cut()

    during_a_body(monkeypatch, cut_the_first, after=1_000_000)
    report = send(tmp_path / "run", url, platform.key)
    assert cuts == [1, 3]
    assert report.problems == ()
    sizes = [each["size"] for each in platform.get(f"test-runs/{run.run_id}/files")["files"]]
    assert sizes.count(3_000_000) == 3


def test_a_platform_that_is_away_is_told_and_the_rest_sent_when_it_is_back(
    platform: Platform, proxy: TcpProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://127.0.0.1:{proxy.port}"
    finished_run(tmp_path / "run", remote_profile(url), size=3_000_000)

    def go_away(_: int) -> None:
        proxy.refuse()
        proxy.cut()

    with monkeypatch.context() as patch:
        during_a_body(patch, go_away, after=1_000_000)
        report = send(tmp_path / "run", url, platform.key)
    assert report.sent == ("report.html",)
    assert all("connection refused" in problem or "hung up" in problem for problem in report.problems)
    assert all("\n" not in problem for problem in report.problems)
    proxy.accept_connections()
    after = send(tmp_path / "run", url, platform.key)
    assert (after.known, after.problems) == (("report.html",), ())
    assert after.sent[-1] == RESULTS


def test_a_network_that_swallows_everything_ends_with_the_deadline(
    platform: Platform, proxy: TcpProxy, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{proxy.port}"
    finished_run(tmp_path / "run", remote_profile(url))
    proxy.blackhole()
    report = send(tmp_path / "run", url, platform.key, seconds=0.4)
    assert report.sent == ()
    assert any("was not sent within" in problem for problem in report.problems)


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_a_busy_platform_is_asked_again(tmp_path: Path, status: int) -> None:
    with serving() as server:
        finished_run(tmp_path / "run", remote_profile(server.url))
        server.answer = lambda request: (
            Answer(status, b"{}", {"Retry-After": "0"})
            if len(server.requests) < 3
            else Answer(201, b'{"cases_ingested": 2}')
        )
        report = send(tmp_path / "run", server.url, files=False)
    assert (report.sent, report.problems, len(server.requests)) == ((RESULTS,), (), 3)
    assert len({len(request.body) for request in server.requests}) == 1, "the whole body each time"


def test_a_platform_that_asks_for_more_time_than_there_is_is_left_alone(tmp_path: Path) -> None:
    with serving() as server:
        finished_run(tmp_path / "run", remote_profile(server.url))
        server.answer = lambda request: Answer(429, b'{"detail": "slow down"}', {"Retry-After": "3600"})
        (problem,) = send(tmp_path / "run", server.url, files=False).problems
    assert len(server.requests) == 1
    assert "429: slow down" in problem


@pytest.mark.parametrize(
    ("status", "asked", "words"),
    [
        (401, 1, "set ROBOTICKS_INGEST_TOKEN"),
        (403, 1, "of this project"),
        (404, 6, "check `backend`"),
        (413, 6, "does not take so much"),
        (422, 6, "with 422: no good"),
        (307, 6, "redirect (307) to https://elsewhere.example"),
    ],
)
def test_a_refusal_is_one_sentence_and_not_tried_again(tmp_path: Path, status: int, asked: int, words: str) -> None:
    with serving() as server:
        finished_run(tmp_path / "run", remote_profile(server.url))
        place = {"Location": "https://elsewhere.example/x?signature=secret"}
        server.answer = lambda request: Answer(status, b'{"detail": "no\\n good"}', place)
        report = send(tmp_path / "run", server.url)
    assert len(server.requests) == asked == len(report.problems), "whoever is not let in asks for nothing more"
    assert words in report.problems[0]
    assert all("\n" not in problem and "secret" not in problem for problem in report.problems)
    assert report.sent == ()


def addresses(server: Server, place: str) -> Callable[[Request], Answer]:
    """Answer as a platform whose files go to another address."""

    def answer(request: Request) -> Answer:
        if request.path.endswith("mcap-upload-urls"):
            upload: dict[str, Any] = {"filename": "f", "url": place, "fields": {"key": "k"}, "s3_uri": "s3://b/f"}
            return Answer(200, json.dumps({"uploads": [upload]}).encode())
        return Answer(200, b'{"cases_ingested": 2}')

    return answer


def test_the_host_of_a_signed_address_gets_the_fields_the_file_last_and_no_credential(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password mine\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    with serving() as server, serving() as store:
        finished_run(tmp_path / "run", remote_profile(server.url))
        server.answer = addresses(server, store.url + "/bucket?X-Amz-Signature=s")
        store.answer = lambda request: Answer(204)
        assert send(tmp_path / "run", server.url).problems == ()
    assert len(store.requests) == 5
    for request in store.requests:
        assert not {"authorization", "x-api-key", "cookie"} & set(request.headers)
        assert KEY.encode() not in request.body
        assert request.body.index(b'name="key"') < request.body.index(b'name="file"')
    assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {KEY}"}


@pytest.mark.parametrize(
    "place", ["http://store.example/b", "ftp://store.example/b", "file:///etc", "//x", "http://[", ""]
)
def test_a_file_goes_to_no_address_that_others_can_read_along(tmp_path: Path, place: str) -> None:
    with serving() as server:
        finished_run(tmp_path / "run", remote_profile(server.url))
        server.answer = addresses(server, place)
        report = send(tmp_path / "run", server.url)
    assert len(report.problems) == 5
    assert all("which is not https" in problem for problem in report.problems)
    assert report.sent == (RESULTS,), "the results go without the files"


def test_a_redirect_of_the_store_is_not_followed(tmp_path: Path) -> None:
    with serving() as server, serving() as store, serving() as thief:
        finished_run(tmp_path / "run", remote_profile(server.url))
        server.answer = addresses(server, store.url)
        store.answer = lambda request: Answer(307, b"", {"Location": thief.url})
        report = send(tmp_path / "run", server.url)
    assert thief.requests == []
    assert all("redirect (307)" in problem for problem in report.problems)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"uploads": []}', b'{"uploads": [{"url": 1}]}', b'{"uploads": {}}']
)
def test_an_answer_that_makes_no_sense_is_told(tmp_path: Path, body: bytes) -> None:
    with serving() as server:
        finished_run(tmp_path / "run", remote_profile(server.url))
        server.answer = lambda request: Answer(200, body)
        report = send(tmp_path / "run", server.url)
    assert len(report.problems) in {5, 6}
    assert all("\n" not in problem for problem in report.problems)


@pytest.mark.parametrize("behave", [hanging(), dripping(b"HTTP/1.1 200 OK\r\nX-Slow: ")])
def test_a_platform_that_does_not_answer_ends_with_its_limit(tmp_path: Path, behave: Any) -> None:
    with misbehaving(behave) as server:
        finished_run(tmp_path / "run", remote_profile(server.url))
        (problem,) = send(tmp_path / "run", server.url, seconds=1.0, files=False).problems
    assert "does not answer" in problem or "was not sent within" in problem


def test_nothing_is_begun_when_the_time_is_up(tmp_path: Path) -> None:
    with serving() as server:
        finished_run(tmp_path / "run", remote_profile(server.url))
        report = send(tmp_path / "run", server.url, seconds=0.0)
    assert server.requests == []
    assert report.sent == ()


def test_a_file_that_becomes_shorter_meanwhile_is_told(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = platform.ready["url"]
    finished_run(tmp_path / "run", remote_profile(url), size=3_000_000)

    def shrink(number: int) -> None:
        if number == 1:
            (tmp_path / "run" / "timeline.jsonl").write_bytes(b"short")

    during_a_body(monkeypatch, shrink, after=1_000_000)
    report = send(tmp_path / "run", url, platform.key)
    assert report.problems == ("timeline.jsonl was not sent: it became shorter meanwhile",)
