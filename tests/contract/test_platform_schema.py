"""The local platform keeps to the OpenAPI document that it serves, whatever it is sent, and lets no stranger in."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jsonschema
import pytest

from roboticks_tasks.sim.platform import api, openapi, routes
from tests.contract.platform_process import Device, Platform, running
from tests.contract.results import case, ingest, upload_address

DOCUMENT = "/api/v1/openapi.json"
EXAMPLES, SEED = 5, 20_261_122

CONFIGURATION = """
warnings.fail-on = ["missing_auth"]

[parameters]
device = "{kept}"
session = "{session}"
run = "{run}"
"query.dsn" = "{kept}"

[[operations]]
include-method = "DELETE"
parameters = {{ device = "{doomed}", session = "{doomed_session}" }}

[[operations]]
# No generator knows how to sign a certificate request.
include-path-regex = "/fleet/register$"
checks.positive_data_acceptance.enabled = false

[[operations]]
# Nor writes a JUnit file, or one of the size that was announced.
include-path-regex = "/(ingest/junit|uploads/.file.)$"
checks.positive_data_acceptance.enabled = false

[[operations]]
include-path-regex = "/ingest-tokens/.token.$"
parameters = {{ token = "{token}" }}

[[operations]]
include-path-regex = "/files/download$"
parameters = {{ "query.path" = "{path}" }}

[[operations]]
include-path-regex = "/uploads/.file.$"
parameters = {{ file = "{upload[0]}", "query.expires" = {upload[1]}, "query.signature" = "{upload[2]}" }}

[[operations]]
include-path-regex = "/downloads/.file.$"
parameters = {{ file = "{download[0]}", "query.expires" = {download[1]}, "query.signature" = "{download[2]}" }}
"""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running(tmp_path_factory.mktemp("schema") / "platform", "--broker", "builtin") as platform:
        yield platform


@pytest.fixture(scope="module")
def document(platform: Platform) -> dict[str, Any]:
    described: dict[str, Any] = platform.get(DOCUMENT)
    return described


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def test_every_route_of_the_server_is_described_and_nothing_else(document: dict[str, Any]) -> None:
    described = {(method, path) for method, path, _ in operations(document)}
    served = {(each.method, openapi.PARAMETER.sub(r"{\1}", each.path)) for each in api.EVERYTHING}
    assert described == served
    assert len(described) == len(api.EVERYTHING) == len(routes.ENDPOINTS) + 2


def test_the_document_is_one_of_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    named = set(re.findall(r"#/components/schemas/(\w+)", str(document)))
    assert named == set(document["components"]["schemas"])
    identities = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(identities)) == len(identities)
    assert all(operation["summary"] for *_, operation in operations(document))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Project-Secret": "wrong"},
        {"X-API-Key": "wrong"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic d3Jvbmc6"},
        {"Cookie": "session=wrong"},
        {"X-Project-Secret": ""},
    ],
)
def test_no_route_but_health_answers_without_a_right_credential(
    platform: Platform, document: dict[str, Any], headers: dict[str, str]
) -> None:
    for method, path, operation in operations(document):
        real = path.replace("{org}", "local").replace("{project}", "local")
        status = platform.call(method, openapi.PARAMETER.sub("x", real), headers=headers, json={}).status_code
        assert status == (200 if path == "/api/v1/health" else 401), (method, path)
        assert (operation["security"] == []) == (path == "/api/v1/health")


def test_what_does_not_exist_is_not_told_to_strangers(platform: Platform) -> None:
    for path in ("/", "/api", "/api/v1/nothing", "/docs", "/api/v1/fleet/", "/api/v1/health/", "//api/v1/health"):
        assert platform.call("GET", path, headers={}).status_code == 401, path


def a_test_run(platform: Platform) -> dict[str, Any]:
    """Have a test run with a file, an ingest token, and an address for another file; return their names."""
    kept, other = (upload_address(platform, "x.log", 3) for _ in range(2))
    posted = platform.http.post(kept["url"], data=kept["fields"], files={"file": ("x.log", b"log")})
    assert posted.status_code == 204, posted.text
    run = ingest(platform, f"<testsuites>{case('a', attach={'logs': kept['s3_uri']})}</testsuites>")["test_run_id"]
    path = platform.get(f"test-runs/{run}/files")["files"][0]["key"]
    response = platform.call("GET", f"test-runs/{run}/files/download", params={"path": path})
    address = response.json()["download_url"]
    token = platform.call("POST", "ingest-tokens", json={"name": "ci"}).json()["id"]
    return {
        "run": run,
        "path": path,
        "token": token,
        "upload": signed_parts(other["url"]),
        "download": signed_parts(address),
    }


def signed_parts(url: str) -> tuple[str, str, str]:
    """Return the file, the time and the signature of a signed address."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    return parts.path.rpartition("/")[2], query["expires"][0], query["signature"][0]


def test_the_server_keeps_to_its_document_whatever_it_is_sent(platform: Platform, tmp_path: Path) -> None:
    """schemathesis, as its users run it: documented, off the edge, and through one another's ids."""
    kept, doomed = Device(platform, tmp_path, "kept"), Device(platform, tmp_path, "doomed")
    ids = []
    for device in (kept, doomed):
        with device.connected() as connection:
            connection.heartbeat(
                metrics={"cpu": 1.5}, compositions=[{"name": "a", "mode": "prod", "status": "running"}]
            )
            ids.append(connection.create()["session_id"])
    (tmp_path / "schemathesis.toml").write_text(
        CONFIGURATION.format(
            kept=kept.dsn, doomed=doomed.dsn, session=ids[0], doomed_session=ids[1], **a_test_run(platform)
        )
    )
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml", "run"),
            platform.ready["url"] + DOCUMENT,
            # All of them: a credential that is made up beside a right one is refused, and nothing would be tested.
            *("--header", f"X-Project-Secret: {platform.secret}", "--header", f"X-API-Key: {platform.key}"),
            *("--header", f"Authorization: Bearer {platform.key}"),
            *("--seed", str(SEED), "--max-examples", str(EXAMPLES), "--workers", "1", "--no-color"),
            *("--generation-database", "none", "--phases", "coverage,fuzzing"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]
    assert f"{len(api.EVERYTHING) - 1} selected" in done.stdout, "all but the document itself"
    assert platform.process.poll() is None
    assert "Traceback" not in platform.log
    assert platform.log.count("\n") < 100, "what strangers send does not fill the log"
