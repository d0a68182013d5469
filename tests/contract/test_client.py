"""The REST client against a real server: what it sends, what it reads, and how it says that it got something else."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from roboticks_tasks.backend import Client, open_client
from roboticks_tasks.backend import client as client_module
from roboticks_tasks.errors import BackendError, Verdict
from roboticks_tasks.models import BackendRef
from tests.contract.http_server import Answer, Server, serving

PROJECT = "/api/v1/organizations/acme/projects/rover"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("ROBOTICKS_API_KEY", "the-key")
    with open_client(BackendRef(url=server.url, organization="acme", project="rover")) as opened:
        yield opened


def says(server: Server, value: object, status: int = 200) -> None:
    server.answer = lambda request: Answer(status, json.dumps(value).encode())


def refusal(client: Client) -> str:
    with pytest.raises(BackendError) as refused:
        client.device("D1")
    assert refused.value.verdict is Verdict.BACKEND_ERROR
    return str(refused.value)


def test_every_call_bears_the_key(server: Server, client: Client) -> None:
    says(server, {})
    client.health()
    (request,) = server.requests
    assert request.headers["authorization"] == "Bearer the-key"
    assert request.headers["accept"] == "application/json"


def test_the_key_is_stronger_than_a_netrc(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("default login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr(client_module, "LOOPBACK", set())  # as if the platform were far away
    says(server, {})
    client.health()
    assert server.requests[0].headers["authorization"] == "Bearer the-key"


def test_without_a_key_nothing_is_sent_for_one(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROBOTICKS_API_KEY", raising=False)
    says(server, {})
    with open_client(BackendRef(url=server.url, organization="acme", project="rover")) as client:
        client.health()
        assert not client.can_read
    assert "authorization" not in server.requests[0].headers


def test_the_local_platforms_key_is_read_from_its_file(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ROBOTICKS_API_KEY", raising=False)
    (tmp_path / "key").write_text("from-the-file\n")
    says(server, {})
    with open_client(BackendRef(url=server.url, api_key_file=str(tmp_path / "key"))) as client:
        client.health()
    assert server.requests[0].headers["authorization"] == "Bearer from-the-file"
    with pytest.raises(BackendError, match=r"credentials cannot be read \(.*nothing: No such file"):
        Client(BackendRef(url=server.url, api_key_file=str(tmp_path / "nothing")))


@pytest.mark.parametrize(
    ("organization", "project", "can"), [("acme", "rover", True), (None, "rover", False), ("acme", None, False)]
)
def test_the_registry_can_only_be_read_in_a_project(
    client: Client, server: Server, organization: str | None, project: str | None, can: bool
) -> None:
    assert Client(BackendRef(url=server.url, organization=organization, project=project)).can_read is can


def test_each_call_has_its_documented_address(server: Server, client: Client) -> None:
    says(server, [])
    client.devices(status="online")
    client.sessions(device_id="D1", status="active")
    client.logs("S1", search="a b&c")
    says(server, {})
    client.device("D1")
    client.session("S1")
    client.limits()
    assert [request.path for request in server.requests] == [
        f"{PROJECT}/devices?status=online",
        f"{PROJECT}/sessions?device_id=D1&status=active",
        f"{PROJECT}/sessions/S1/logs?search=a+b%26c",
        f"{PROJECT}/devices/D1",
        f"{PROJECT}/sessions/S1",
        "/api/v1/organizations/acme/limits",
    ]


@pytest.mark.parametrize("answer", [[{"dsn": "D1"}], {"items": [{"dsn": "D1"}], "total": 1}])
def test_a_bare_array_and_a_list_of_items_are_read_alike(server: Server, client: Client, answer: object) -> None:
    says(server, answer)
    assert client.devices() == [{"dsn": "D1"}]


def test_a_command_is_posted_and_its_id_returned(server: Server, client: Client) -> None:
    says(server, {"command_id": "C1"}, status=202)
    assert client.send_command("D1", 3, {"a": 1}) == "C1"
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", f"{PROJECT}/devices/D1/commands")
    assert json.loads(request.body) == {"type": 3, "payload": {"a": 1}}


@pytest.mark.parametrize("key", ["detail", "message"])
def test_a_refusal_is_told_in_the_platforms_words(server: Server, client: Client, key: str) -> None:
    says(server, {key: "Device not found"}, status=404)
    sentence = f"GET {server.url}{PROJECT}/devices/D1 was refused with 404: Device not found"
    assert refusal(client) == sentence


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}"])
def test_a_refusal_without_words_is_told_with_its_status(server: Server, client: Client, body: bytes) -> None:
    server.answer = lambda request: Answer(403, body)
    assert "was refused with 403: Forbidden" in refusal(client)


@pytest.mark.parametrize("body", [b"", b"<html>a proxy's page</html>", b"{", b"\xff\xfe"])
def test_what_is_not_json_is_called_that(server: Server, client: Client, body: bytes) -> None:
    server.answer = lambda request: Answer(200, body)
    assert "answered something that is not JSON; check the URL" in refusal(client)


def test_what_is_not_an_object_or_not_a_list_is_called_that(server: Server, client: Client) -> None:
    says(server, [])
    assert "answered something that is not an object" in refusal(client)
    says(server, {"items": "x"})
    with pytest.raises(BackendError, match="answered something that is not a list"):
        client.devices()


def test_a_platform_that_is_not_there_is_named_by_its_address() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # taken, and nobody listens
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        with (
            open_client(BackendRef(url=url)) as client,
            pytest.raises(BackendError, match=rf"the platform at {url} cannot be reached .*check the URL"),
        ):
            client.health()


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_read_that_broke_is_repeated(server: Server, client: Client, status: int) -> None:
    server.answer = lambda request: Answer(status) if len(server.requests) == 1 else Answer(200, b'{"dsn": "D1"}')
    assert client.device("D1") == {"dsn": "D1"}
    assert server.methods == ["GET", "GET"]


def test_a_read_that_stays_broken_is_told_in_the_platforms_words(server: Server, client: Client) -> None:
    says(server, {"detail": "the database is away"}, status=503)
    assert "was refused with 503: the database is away" in refusal(client)
    assert len(server.requests) == 4


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_write_is_never_repeated_because_it_may_have_arrived(server: Server, client: Client, status: int) -> None:
    says(server, {"detail": "busy"}, status=status)
    with pytest.raises(BackendError, match=f"POST .* was refused with {status}: busy"):
        client.send_command("D1", 3, {})
    assert server.methods == ["POST"]


def test_a_proxy_does_not_swallow_this_machine(server: Server, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    says(server, {"status": "ok"})
    assert client.health() == {"status": "ok"}


def test_a_client_that_was_lent_stays_open(server: Server, client: Client) -> None:
    says(server, {"status": "ok"})
    with open_client(BackendRef(url="http://elsewhere"), client) as lent:
        assert lent is client
    assert client.health() == {"status": "ok"}


def test_a_client_that_was_never_asked_has_no_connection(server: Server) -> None:
    with open_client(BackendRef(url=server.url)):
        pass
    assert server.requests == []
