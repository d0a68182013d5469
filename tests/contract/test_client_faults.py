"""The REST client and a broken platform: every call ends in time, takes a bounded answer, and says what it saw."""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from pathlib import Path

import pytest

from roboticks_tasks.backend import calls, certificates, open_client
from roboticks_tasks.backend import client as client_module
from roboticks_tasks.backend.calls import Limits, SlowError, within
from roboticks_tasks.errors import BackendError, Verdict
from roboticks_tasks.models import BackendRef
from roboticks_tasks.waiting import Deadline
from tests.conditions import until
from tests.contract.authorities import DAY, NOW, WebAuthorities
from tests.contract.bad_server import OK, Behave, answer, answering, dripping, flooding, hanging, misbehaving
from tests.contract.http_server import Answer, Server, serving

BUSY = "503 Service Unavailable"


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give calls little time, and pauses between them almost none."""
    monkeypatch.setattr(client_module, "PATIENT", Limits(connect=0.5, read=0.5, whole=0.8, attempts=3))
    monkeypatch.setattr(calls, "FIRST_PAUSE", 0.01)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> WebAuthorities:
    return WebAuthorities(tmp_path_factory.mktemp("web"))


def refusal(url: str, *, post: bool = False, deadline: Deadline | None = None) -> str:
    """Return what a call to a broken platform says."""
    with open_client(BackendRef(url=url, organization="acme", project="rover"), deadline=deadline) as client:
        call = partial(client.send_command, "D1", 3, {}) if post else client.health
        with pytest.raises(BackendError) as refused:
            call()
    assert refused.value.verdict is Verdict.BACKEND_ERROR
    assert refused.value.remedy or "refused with" in str(refused.value)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("behave", "words"),
    [
        pytest.param(hanging(), "it takes the connection and does not answer", id="never answers"),
        pytest.param(hanging(OK + b"\r\n"), "it takes the connection and does not answer", id="headers, no body"),
        pytest.param(dripping(OK + b"X-Slow: "), "it gave no whole answer in time: 0.8 s", id="headers by the byte"),
        pytest.param(
            dripping(OK + b"Content-Length: 100000\r\n\r\n"),
            "it gave no whole answer in time: 0.8 s",
            id="a body by the byte",
        ),
        pytest.param(
            answering(OK + b'Content-Length: 100\r\n\r\n{"status": '),
            "it hung up in the middle of its answer",
            id="truncated JSON",
        ),
        pytest.param(
            answering(OK + b"Transfer-Encoding: chunked\r\n\r\nff\r\n{"),
            "it hung up in the middle of its answer",
            id="a truncated chunk",
        ),
        pytest.param(answering(b""), "it hung up without an answer", id="hangs up"),
        pytest.param(flooding(OK + b"\r\n"), "its answer is larger than 16 MB", id="a gigabyte"),
        pytest.param(
            flooding(b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n"),
            "its answer is larger than 16 MB",
            id="a redirect of a gigabyte",
        ),
        pytest.param(answering(b"SSH-2.0-OpenSSH_9.2\r\n"), "cannot be reached for GET", id="another protocol"),
        pytest.param(
            answering(OK + b"".join(b"X-%d: 1\r\n" % number for number in range(200)) + b"\r\n"),
            "cannot be reached for GET",
            id="hundreds of headers",
        ),
    ],
)
def test_a_broken_platform_costs_a_bounded_time_and_gets_one_sentence(behave: Behave, words: str) -> None:
    with misbehaving(behave) as server:
        said = refusal(server.url)
    assert said.startswith(f"the platform at {server.url} cannot be reached for GET /api/v1/health (")
    assert words in said


@pytest.mark.parametrize("behave", [hanging(), dripping(OK + b"X-Slow: ")], ids=["never answers", "by the byte"])
def test_no_call_outlasts_the_deadline_of_whoever_waits(behave: Behave, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PATIENT", Limits(connect=60, read=60, whole=60, attempts=3))
    with misbehaving(behave) as server:
        said = refusal(server.url, post=True, deadline=Deadline(0.3))
        assert "it gave no whole answer in time" in said or "does not answer" in said
        assert len(server.requests) == 1


def test_a_call_that_hangs_is_not_followed_by_more_of_them() -> None:
    with misbehaving(dripping(OK + b"X-Slow: ")) as server, open_client(BackendRef(url=server.url)) as client:
        for words in ("in time: 0.8 s", "an earlier call still waits"):
            with pytest.raises(BackendError, match=words):
                client.health()
        assert sum(thread.name == "http-call" for thread in threading.enumerate()) == 1
    until(lambda: all(thread.name != "http-call" for thread in threading.enumerate()), "the call ends with its server")


def test_a_body_that_was_given_up_is_not_read_any_more() -> None:
    """Its thread ends although the server goes on, and the next call is welcome."""
    with (
        misbehaving(dripping(OK + b"Content-Length: 100000\r\n\r\n")) as server,
        open_client(BackendRef(url=server.url)) as client,
    ):
        with pytest.raises(BackendError, match="in time"):
            client.health()
        until(lambda: all(thread.name != "http-call" for thread in threading.enumerate()), "the thread has ended")
        server.behave = answer("200 OK", b'{"status": "ok"}')
        assert client.health() == {"status": "ok"}


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (
            "other authority",
            r"its certificate is signed by Elsewhere, which this machine does not trust .*REQUESTS_CA_BUNDLE",
        ),
        (
            "other host",
            r"its certificate is not valid for localhost, only for elsewhere\.example\); correct the URL",
        ),
        (
            "expired",
            rf"its certificate expired on {NOW - 2 * DAY:%Y-%m-%d %H:%M} UTC, this machine's clock says {NOW:%Y}-",
        ),
        (
            "not yet valid",
            rf"its certificate is not valid before {NOW + 2 * DAY:%Y-%m-%d %H:%M} UTC, this machine's clock says .*"
            r"set the clock",
        ),
    ],
)
@pytest.mark.parametrize("post", [False, True], ids=["GET", "POST"])
def test_a_bad_certificate_is_told_in_words(
    authorities: WebAuthorities, monkeypatch: pytest.MonkeyPatch, kind: str, words: str, post: bool
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authorities.ca))
    with misbehaving(answer("200 OK"), tls=authorities.context(kind)) as server:
        said = refusal(server.url, post=post)
        assert server.requests == []
    assert re.search(words, said), said


def test_a_good_certificate_of_an_authority_that_was_named_is_trusted(
    authorities: WebAuthorities, monkeypatch: pytest.MonkeyPatch
) -> None:
    with misbehaving(answer("200 OK", b'{"status": "ok"}'), tls=authorities.context("good")) as server:
        assert "signed by Trusted, which this machine does not trust" in refusal(server.url)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authorities.ca))
        with open_client(BackendRef(url=server.url)) as client:
            assert client.health() == {"status": "ok"}


def test_a_bundle_that_is_not_there_is_no_bug_of_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "nothing.pem"))
    assert "nothing.pem" in refusal("https://localhost:1")


def test_a_server_without_tls_is_told_apart() -> None:
    with serving() as server:
        said = refusal(server.url.replace("http:", "https:"))
    assert "no TLS with it: " in said
    assert "check the URL's scheme and port" in said


def test_a_name_that_nobody_knows_is_told() -> None:
    assert "the name nobody.invalid is not known" in refusal("https://nobody.invalid")


def test_a_platform_that_is_down_is_told() -> None:
    with closing(socket.socket()) as reserved:
        reserved.bind(("127.0.0.1", 0))
        said = refusal(f"http://127.0.0.1:{reserved.getsockname()[1]}", post=True)
    assert "connection refused: nothing listens there" in said


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_platform_is_asked_again_a_few_times(server: Server, status: int) -> None:
    server.answer = lambda request: Answer(status, b'{"detail": "busy"}')
    assert f"was refused with {status}: busy" in refusal(server.url)
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 500, 501])
def test_a_refusal_is_not_asked_for_again(server: Server, status: int) -> None:
    server.answer = lambda request: Answer(status, b'{"detail": "no"}')
    assert f"was refused with {status}: no" in refusal(server.url)
    assert len(server.requests) == 1


def test_what_a_refusal_says_stays_one_sentence(server: Server) -> None:
    server.answer = lambda request: Answer(400, json.dumps({"detail": "first\nsecond " + "x" * 100_000}).encode())
    said = refusal(server.url)
    assert "was refused with 400: first second xxx" in said
    assert len(said) < 1000


@pytest.mark.parametrize("wait", ["0", "date", "nonsense", "Fri, 31 Dec 99999999999 23:59:59 GMT"])
def test_the_pause_that_is_asked_for_is_kept(server: Server, wait: str) -> None:
    header = format_datetime(datetime.now(UTC) - timedelta(seconds=5)) if wait == "date" else wait
    server.answer = lambda request: (
        Answer(429, headers={"Retry-After": header}) if len(server.requests) == 1 else Answer(200, b'{"status": "ok"}')
    )
    with open_client(BackendRef(url=server.url)) as client:
        assert client.health() == {"status": "ok"}


@pytest.mark.parametrize("wait", ["3600", "date"])
def test_a_pause_beyond_the_limit_is_told_and_not_waited_for(server: Server, wait: str) -> None:
    header = format_datetime(datetime.now(UTC) + timedelta(hours=1)) if wait == "date" else wait
    server.answer = lambda request: Answer(429, b'{"detail": "slow down"}', headers={"Retry-After": header})
    said = refusal(server.url)
    assert "was refused with 429: slow down; it asks to be left alone until " + header in said
    assert len(server.requests) == 1


def test_pauses_differ_so_that_clients_do_not_come_back_in_step() -> None:
    assert len({calls.pause_before(3) for _ in range(20)}) > 1
    assert all(calls.FIRST_PAUSE / 2 <= calls.pause_before(1) <= calls.FIRST_PAUSE for _ in range(20))
    assert calls.pause_before(99) <= calls.LONGEST_PAUSE


@pytest.mark.parametrize("behave", [answering(b""), answering(OK + b"Content-Length: 9\r\n\r\n{"), answer(BUSY)])
def test_what_may_have_arrived_is_sent_once(behave: Behave) -> None:
    with misbehaving(behave) as server:
        refusal(server.url, post=True)
        assert len(server.requests) == 1


@pytest.mark.parametrize("place", ["/api/v1/health", "https://sso.example/login", "http://localhost:1/"])
@pytest.mark.parametrize("post", [False, True], ids=["GET", "POST"])
def test_a_redirect_is_told_and_never_followed(place: str, post: bool) -> None:
    with misbehaving(answer("302 Found", b"", f"Location: {place}")) as server:
        said = refusal(server.url, post=post)
        assert len(server.requests) == 1
    assert f"was answered with a redirect (302) to {place}; set `backend` to the platform's own URL" in said


@pytest.mark.parametrize("post", [False, True], ids=["GET", "POST"])
def test_a_proxy_that_is_not_there_is_blamed(monkeypatch: pytest.MonkeyPatch, post: bool) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    said = refusal("http://platform.test", post=post)
    assert (
        "the proxy in between refuses, or is not there); check HTTPS_PROXY, or name platform.test in NO_PROXY" in said
    )


def test_a_proxy_that_refuses_the_platform_is_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    with misbehaving(answer("403 Forbidden", b"<html>")) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        assert "the proxy in between refuses" in refusal("https://platform.test")
        assert proxy.requests[0].startswith(b"CONNECT platform.test:443")


def test_a_proxys_own_page_is_not_taken_for_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    with misbehaving(answer("200 OK", b"<html>please log in</html>")) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        assert "answered something that is not JSON" in refusal("http://platform.test")


def test_whatever_hangs_is_left_behind() -> None:
    release = threading.Event()
    with pytest.raises(SlowError, match=r"0\.05 s"):
        within(0.05, release.wait)
    release.set()


def test_what_is_raised_in_a_call_is_raised_to_whoever_called() -> None:
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 // 0)


def test_a_certificate_says_who_made_it_for_whom_and_until_when(authorities: WebAuthorities) -> None:
    leaf = authorities.trusted.issue_cert("localhost", "127.0.0.1", "::1", not_before=NOW - DAY, not_after=NOW + DAY)
    der = ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())
    assert certificates.parse(der) == certificates.Certificate(
        issuer="Trusted", names=("localhost", "127.0.0.1", "::1"), since=NOW - DAY, until=NOW + DAY
    )


def test_a_time_far_away_has_another_form(authorities: WebAuthorities) -> None:
    leaf = authorities.trusted.issue_cert("localhost", not_after=datetime(2999, 1, 2, tzinfo=UTC))
    der = ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())
    assert certificates.parse(der).until == datetime(2999, 1, 2, tzinfo=UTC)
    for cut in range(0, len(der), 7):
        with pytest.raises(ValueError, match=r"DER|time data|tuple|unpack"):
            certificates.parse(der[:cut])
