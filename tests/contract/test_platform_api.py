"""The platform's HTTP API, against the real process."""

from __future__ import annotations

import base64
import itertools
import json
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests.contract.platform_process import PROJECT, Device, Platform, entry, request_pem, running

REGISTER = "/api/v1/fleet/register"
serials = itertools.count()


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running(tmp_path_factory.mktemp("api") / "platform", "--broker", "builtin") as platform:
        assert "error" not in platform.ready
        yield platform


@pytest.fixture
def serial() -> str:
    return f"serial-{next(serials)}"


@pytest.fixture
def device(platform: Platform, tmp_path: Path, serial: str) -> Device:
    return Device(platform, tmp_path, serial)


def test_health_needs_no_credentials(platform: Platform) -> None:
    response = platform.call("GET", "/api/v1/health", headers={})
    assert response.status_code == 200
    assert response.json() == {
        "status": "ok",
        "service": "roboticks-local-platform",
        "version": "1.0.0",
        "broker": "builtin",
    }


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        ({}, "missing credentials"),
        ({"X-Project-Secret": "no"}, "wrong project secret"),
        ({"X-API-Key": "no"}, "wrong API key"),
        ({"Authorization": "Bearer no"}, "wrong API key"),
        ({"Authorization": "Basic no"}, "wrong Authorization header"),
        ({"X-API-Key": ""}, "wrong API key"),
    ],
)
def test_wrong_credentials_are_named(platform: Platform, headers: dict[str, str], detail: str) -> None:
    response = platform.call("GET", "devices", headers=headers)
    assert response.status_code == 401
    assert response.json()["detail"].startswith(detail)


def test_each_kind_of_credential_opens_the_api(platform: Platform) -> None:
    for headers in (
        {"X-Project-Secret": platform.secret},
        {"X-API-Key": platform.key},
        {"Authorization": f"Bearer {platform.key}"},
    ):
        assert platform.call("GET", "devices", headers=headers).status_code == 200


def test_a_wrong_secret_beside_a_right_key_is_refused(platform: Platform) -> None:
    headers = {"X-Project-Secret": "no", "X-API-Key": platform.key}
    assert platform.call("GET", "devices", headers=headers).status_code == 401


@pytest.mark.parametrize("headers", [{"X-Project-Secret": "no"}, {}])
def test_registration_with_a_wrong_secret_is_refused(platform: Platform, serial: str, headers: dict[str, str]) -> None:
    before = platform.get("devices")["total"]
    body = {"name": "r", "serial": serial, "csr": request_pem()[1], "test_device": True}
    response = platform.call("POST", REGISTER, json=body, headers=headers)
    assert response.status_code == 401
    assert "project secret" in response.json()["detail"]
    assert platform.get("devices")["total"] == before


def test_the_api_key_alone_does_not_register(platform: Platform) -> None:
    assert platform.call("POST", REGISTER, json={}).status_code == 401


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_a_foreign_host_name_is_refused(platform: Platform, host: str) -> None:
    response = platform.call("GET", "/api/v1/health", headers={"Host": host})
    assert response.status_code == 400


def test_localhost_is_a_name_of_ours(platform: Platform) -> None:
    port = platform.ready["url"].rpartition(":")[2]
    assert platform.call("GET", "/api/v1/health", headers={"Host": f"localhost:{port}"}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/organizations/other/limits",
        "/api/v1/organizations/local/projects/other/devices",
        "/api/v1/organizations/other/projects/local/sessions",
        "/api/v1/nothing",
        "devices/SIM-00000000",
        "devices/SIM-00000000/logs",
        "sessions/no-such-session",
        "sessions/no-such-session/logs",
    ],
)
def test_what_does_not_exist_is_404_in_json(platform: Platform, path: str) -> None:
    response = platform.call("GET", path)
    assert response.status_code == 404
    assert isinstance(response.json()["detail"], str)


def test_a_wrong_method_is_405_in_json(platform: Platform) -> None:
    response = platform.call("PUT", "devices")
    assert response.status_code == 405
    assert "detail" in response.json()


def test_a_405_names_every_method_of_the_path(platform: Platform) -> None:
    allowed = platform.call("PUT", "devices/SIM-00000000").headers["Allow"]
    assert set(allowed.split(", ")) == {"GET", "HEAD", "PATCH", "DELETE"}
    assert platform.call("HEAD", "devices").status_code == 200


@pytest.mark.parametrize("since", ["0.5", "1e9", "2.5e-200", ".5"])
def test_seconds_are_taken_as_programs_write_numbers(platform: Platform, since: str) -> None:
    assert platform.call("GET", "sessions", params={"since": since}).status_code == 200


def test_registration_answers_all_that_a_device_needs(platform: Platform, serial: str) -> None:
    response = platform.register(serial)
    assert response.status_code == 201
    body = response.json()
    assert set(body) == {"device_id", "dsn", "certificate", "ca_certificate", "mqtt", "test_device"}
    assert body["test_device"] is True
    assert body["mqtt"] == platform.ready["mqtt"]


def test_the_common_name_is_the_platforms_choice(platform: Platform, serial: str) -> None:
    _, csr = request_pem("roboticks-platform")
    body = platform.register(serial, csr=csr).json()
    certificate = x509.load_pem_x509_certificate(body["certificate"].encode())
    assert certificate.subject.rfc4514_string() == f"CN={body['dsn']}"


def test_the_same_serial_number_keeps_its_dsn_and_gets_a_fresh_certificate(platform: Platform, serial: str) -> None:
    first = platform.register(serial)
    second = platform.register(serial, name="renamed")
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["dsn"] == second.json()["dsn"]
    assert first.json()["certificate"] != second.json()["certificate"]
    assert platform.get(f"devices/{first.json()['dsn']}")["name"] == "renamed"


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"csr": "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----"}, "csr"),
        ({"csr": "hello"}, "csr"),
        ({"csr": 5}, "csr"),
        ({"serial": None}, "serial"),
        ({"serial": ""}, "serial"),
        ({"serial": "x" * 300}, "serial"),
        ({"serial": "a\x00b"}, "serial"),
        ({"name": ["r"]}, "name"),
        ({"type": 7}, "type"),
        ({"test_device": "yes"}, "test_device"),
        ({"environment": {}}, "environment"),
    ],
)
def test_a_bad_registration_names_the_key_and_adds_no_device(
    platform: Platform, change: dict[str, Any], key: str, serial: str
) -> None:
    before = platform.get("devices")["total"]
    body = {"name": "r", "serial": serial, "csr": request_pem()[1], "test_device": True, **change}
    response = platform.call("POST", REGISTER, json=body, headers={"X-Project-Secret": platform.secret})
    assert response.status_code == 422
    assert response.json()["detail"].startswith(f"{key}: ")
    assert platform.get("devices")["total"] == before


def test_a_tampered_certificate_request_is_refused(platform: Platform, serial: str) -> None:
    first, *lines, last = request_pem()[1].splitlines()
    der = bytearray(base64.b64decode("".join(lines)))
    der[-1] ^= 1
    response = platform.register(serial, csr="\n".join((first, base64.b64encode(der).decode(), last, "")))
    assert response.status_code == 422
    assert response.json()["detail"] == "csr: its signature does not fit its key"


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"null", b"\xff", b'{"a": NaN}', b'{"a": "\\ud800"}', b'{"a": 1e999}', b"[" * 100_000]
)
def test_a_body_that_is_no_json_object_is_422(platform: Platform, raw: bytes) -> None:
    response = platform.call("POST", REGISTER, data=raw, headers={"X-Project-Secret": platform.secret})
    assert response.status_code == 422
    assert "JSON" in response.json()["detail"]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_beyond_a_megabyte_is_413(platform: Platform, chunked: bool) -> None:
    data: Any = b"x" * 1_000_001
    response = platform.call(
        "POST", REGISTER, data=iter([data]) if chunked else data, headers={"X-Project-Secret": platform.secret}
    )
    assert response.status_code == 413
    assert "1000000" in response.json()["detail"]


def test_test_devices_use_no_units_and_production_devices_do(tmp_path: Path) -> None:
    limits = "/api/v1/organizations/local/limits"
    with running(tmp_path / "platform", "--broker", "builtin") as platform:
        for number in range(4):
            assert platform.register(f"test-{number}").status_code == 201
        assert platform.get(limits)["device_units"] == {"purchased": 2, "used": 0, "test_devices": 4}
        for number in range(2):
            assert platform.register(f"real-{number}", test_device=False).status_code == 201
        refused = platform.register("real-2", test_device=False)
        assert refused.status_code == 409
        assert "units" in refused.json()["detail"]
        assert platform.register("real-0", test_device=False).status_code == 200
        assert platform.register("test-0", test_device=False).status_code == 409
        assert platform.get(limits)["device_units"] == {"purchased": 2, "used": 2, "test_devices": 4}


def test_a_device_behind_a_tunnel_is_told_its_own_port_of_the_broker(
    platform: Platform, device: Device, serial: str
) -> None:
    headers = {"X-Project-Secret": platform.secret}
    path = f"/via/4711/api/v1/fleet/connection?dsn={device.dsn}"
    assert platform.call("GET", path, headers=headers).json() == {"mqtt": {"host": "127.0.0.1", "port": 4711}}
    body = {"name": "r", "serial": serial, "csr": request_pem()[1], "test_device": True}
    answer = platform.call("POST", "/via/4711" + REGISTER, headers=headers, json=body)
    assert answer.json()["mqtt"]["port"] == 4711


@pytest.mark.parametrize("port", ["0", "65536", "123456", "x", "-1", ""])
def test_what_is_no_port_of_a_tunnel_leads_nowhere(platform: Platform, port: str) -> None:
    headers = {"X-Project-Secret": platform.secret}
    assert platform.call("GET", f"/via/{port}/api/v1/fleet/connection?dsn=x", headers=headers).status_code == 404


def test_a_tunnel_does_not_open_what_needs_credentials(platform: Platform) -> None:
    assert platform.call("GET", f"/via/4711{PROJECT}/devices", headers={}).status_code == 401


def test_connection_tells_a_known_device_the_broker(platform: Platform, device: Device) -> None:
    headers = {"X-Project-Secret": platform.secret}
    path = "/api/v1/fleet/connection"
    known = platform.call("GET", path, params={"dsn": device.dsn}, headers=headers)
    assert known.json() == {"mqtt": platform.ready["mqtt"]}
    assert platform.call("GET", path, params={"dsn": "SIM-00000000"}, headers=headers).status_code == 404
    assert platform.call("GET", path, headers=headers).status_code == 422
    assert platform.call("GET", path, params={"dsn": device.dsn}).status_code == 401


def test_a_device_object_has_the_documented_keys(platform: Platform, device: Device) -> None:
    shown = platform.get(f"devices/{device.dsn}")
    assert shown == platform.get(f"devices/{device.id}")
    assert set(shown) == {
        *("id", "name", "dsn", "type", "status", "environment", "last_heartbeat", "created_at", "current_session_id"),
        *("package_id", "package_name", "groups", "metrics", "test_device", "compositions"),
    }
    assert (shown["status"], shown["environment"], shown["type"]) == ("offline", "test", "robot")
    assert (shown["last_heartbeat"], shown["current_session_id"]) == (None, None)


def test_devices_are_listed_in_pages(tmp_path: Path) -> None:
    with running(tmp_path / "platform", "--broker", "builtin") as platform:
        for number in range(5):
            platform.register(f"d{number}", name=f"n{number}", type="arm" if number % 2 else "robot")
        first = platform.get("devices", page_size=2)
        assert [item["name"] for item in first["items"]] == ["n0", "n1"]
        assert (first["total"], first["page"], first["page_size"]) == (5, 1, 2)
        assert [item["name"] for item in platform.get("devices", page_size=2, page=3)["items"]] == ["n4"]
        assert platform.get("devices", page=9)["items"] == []
        assert [item["name"] for item in platform.get("devices", type="arm")["items"]] == ["n1", "n3"]
        assert platform.get("devices", status="offline")["total"] == 5
        assert platform.get("devices", status="online")["total"] == 0
        assert platform.get("devices", group_id="any", page=2)["total"] == 0
        assert platform.get("devices", group_id="any", page_size=7) == {
            "items": [],
            "total": 0,
            "page": 1,
            "page_size": 7,
        }


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("devices", {"page": "0"}),
        ("devices", {"page": "-1"}),
        ("devices", {"page": "²"}),
        ("devices", {"page": "9" * 30}),
        ("devices", {"page_size": "101"}),
        ("devices", {"status": "asleep"}),
        ("sessions", {"status": "open"}),
        ("sessions", {"since": "yesterday"}),
        ("sessions", {"until": "99999999999999"}),
    ],
)
def test_a_bad_query_is_422_and_names_the_key(platform: Platform, path: str, query: dict[str, str]) -> None:
    response = platform.call("GET", path, params=query)
    assert response.status_code == 422
    assert response.json()["detail"].startswith(f"{next(iter(query))}: ")


def test_a_device_can_be_changed(platform: Platform, device: Device) -> None:
    changed = platform.call("PATCH", f"devices/{device.dsn}", json={"name": "new", "environment": "lab"})
    assert changed.status_code == 200
    assert (changed.json()["name"], changed.json()["environment"], changed.json()["type"]) == ("new", "lab", "robot")
    assert platform.get(f"devices/{device.id}") == changed.json()


@pytest.mark.parametrize("body", [{"dsn": "X"}, {"name": ""}, {"name": None}, {"test_device": False}])
def test_what_cannot_be_changed_is_422(platform: Platform, device: Device, body: dict[str, Any]) -> None:
    before = platform.get(f"devices/{device.dsn}")
    response = platform.call("PATCH", f"devices/{device.dsn}", json=body)
    assert response.status_code == 422
    assert response.json()["detail"].startswith(next(iter(body)))
    assert platform.get(f"devices/{device.dsn}") == before


def test_a_forgotten_device_is_gone_with_its_sessions_and_must_register_again(
    platform: Platform, device: Device
) -> None:
    with device.connected() as connection:
        session = connection.create()["session_id"]
        connection.log(entry("x"), session=session)
        connection.settle()
    assert platform.call("DELETE", f"devices/{device.dsn}").status_code == 204
    assert platform.call("DELETE", f"devices/{device.dsn}").status_code == 404
    assert platform.call("GET", f"sessions/{session}").status_code == 404
    connection_path = f"/api/v1/fleet/connection?dsn={device.dsn}"
    headers = {"X-Project-Secret": platform.secret}
    assert platform.call("GET", connection_path, headers=headers).status_code == 404


@pytest.fixture
def session(device: Device) -> str:
    with device.connected() as connection:
        identity: str = connection.create(started_at=1_700_000_000_000)["session_id"]
        entries = [
            entry("starting", at=1_700_000_000_000_000, module="arm"),
            entry("50% Done_now", at=1_700_000_001_000_000, level="warning", module="leg"),
            entry("stopping", at=1_700_000_002_000_000, module="leg"),
        ]
        connection.log(*reversed(entries), session=identity)
        connection.log(entry("outside"), sequence=1)
        connection.settle()
    return identity


def messages(answer: dict[str, Any]) -> list[str]:
    return [item["message"] for item in answer["items"]]


def test_tags_are_added_once_and_taken_away(platform: Platform, session: str) -> None:
    for word in ("nightly", "a/b ä", "nightly"):
        assert platform.call("POST", f"sessions/{session}/tags", json={"tag": word}).status_code == 200
    assert platform.get(f"sessions/{session}")["tags"] == ["a/b ä", "nightly"]
    for _ in range(2):
        assert platform.call("DELETE", f"sessions/{session}/tags/nightly").status_code == 200
    assert platform.call("DELETE", f"sessions/{session}/tags/a%2Fb%20%C3%A4").status_code == 200
    assert platform.get(f"sessions/{session}")["tags"] == []
    assert platform.call("POST", "sessions/none/tags", json={"tag": "x"}).status_code == 404
    assert platform.call("POST", f"sessions/{session}/tags", json={}).json()["detail"] == "tag: missing"


def test_session_logs_are_in_the_order_of_time_with_a_total(platform: Platform, session: str) -> None:
    answer = platform.get(f"sessions/{session}/logs")
    assert messages(answer) == ["starting", "50% Done_now", "stopping"]
    assert answer["items"][1] == {
        "timestamp": "2023-11-14T22:13:21.000000Z",
        "level": "WARNING",
        "module": "leg",
        "message": "50% Done_now",
    }
    limited = platform.get(f"sessions/{session}/logs", limit=1, offset=1)
    assert (messages(limited), limited["total"]) == (["50% Done_now"], 3)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"level": "warning"}, ["50% Done_now"]),
        ({"module": "leg"}, ["50% Done_now", "stopping"]),
        ({"search": "ING"}, ["starting", "stopping"]),
        ({"search": "%"}, ["50% Done_now"]),
        ({"search": "_"}, ["50% Done_now"]),
        ({"since": "2023-11-14T22:13:21Z"}, ["50% Done_now", "stopping"]),
        ({"until": "2023-11-14T23:13:21+01:00"}, ["starting"]),
        ({"since": "1700000001", "until": "1700000002"}, ["50% Done_now"]),
        ({"since": "2023-11-14T22:13:22"}, ["stopping"]),
        ({"level": "warning", "module": "arm"}, []),
    ],
)
def test_session_logs_can_be_filtered(
    platform: Platform, session: str, query: dict[str, str], expected: list[str]
) -> None:
    answer = platform.get(f"sessions/{session}/logs", **query)
    assert messages(answer) == expected
    assert answer["total"] == len(expected)


def test_an_offset_whose_plus_was_not_escaped_is_understood(platform: Platform, session: str) -> None:
    url = f"{platform.ready['url']}{PROJECT}/sessions/{session}/logs?since=2023-11-14T23:13:22+01:00"
    answer = platform.http.get(url, headers={"X-API-Key": platform.key}, timeout=10).json()
    assert messages(answer) == ["stopping"]


def test_device_logs_hold_those_outside_sessions_too(platform: Platform, session: str) -> None:
    dsn = platform.get(f"sessions/{session}")["dsn"]
    answer = platform.get(f"devices/{dsn}/logs", search="s")
    assert sorted(messages(answer)) == ["outside", "starting", "stopping"]


def test_a_forgotten_session_is_gone_with_its_logs(platform: Platform, session: str) -> None:
    dsn = platform.get(f"sessions/{session}")["dsn"]
    assert platform.call("DELETE", f"sessions/{session}").status_code == 204
    assert platform.call("DELETE", f"sessions/{session}").status_code == 404
    assert messages(platform.get(f"devices/{dsn}/logs")) == ["outside"]


def test_sessions_can_be_selected(platform: Platform, session: str, device: Device) -> None:
    def found(**query: str) -> list[str]:
        return [item["id"] for item in platform.get("sessions", **query)["items"]]

    for key in (device.dsn, device.id):
        assert found(device_id=key) == [session]
    assert found(device_id="SIM-00000000") == []
    assert found(device_id=device.dsn, status="active") == [session]
    assert found(device_id=device.dsn, status="failed") == []
    assert found(device_id=device.dsn, since="2023-11-14T22:13:20Z") == [session]
    assert found(device_id=device.dsn, since="2023-11-14T22:13:21Z") == []
    assert found(device_id=device.dsn, until="2023-11-14T22:13:20Z") == []


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "type"),
        ({"type": True}, "type"),
        ({"type": 1.5}, "type"),
        ({"type": ""}, "type"),
        ({"type": 3, "payload": []}, "payload"),
        ({"type": 3, "payload": {"x": "y" * 200_000}}, "payload"),
    ],
)
def test_a_bad_command_is_422(platform: Platform, device: Device, body: dict[str, Any], detail: str) -> None:
    response = platform.call("POST", f"devices/{device.dsn}/commands", json=body)
    assert response.status_code == 422
    assert response.json()["detail"].startswith(f"{detail}: ")


def test_a_certificate_passes_the_strict_checks_of_newer_pythons(platform: Platform, device: Device) -> None:
    context = device.certificate.client_context()
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    port = platform.ready["mqtt"]["port"]
    with (
        socket.create_connection(("127.0.0.1", port), 5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        assert secure.version() == "TLSv1.3"


def test_http_answers_are_not_delayed_by_nagle(platform: Platform) -> None:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        platform.call("POST", REGISTER, data=json.dumps({}), headers={"X-Project-Secret": platform.secret})
        times.append(time.perf_counter() - start)
    assert min(times) < 0.035
