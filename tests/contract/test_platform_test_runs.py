"""Test runs on the local platform: results that come, files beside them, tokens of CI, and how a run gets on."""

from __future__ import annotations

import gzip
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from roboticks_tasks.sim.platform import store, store_files, store_retention, store_test_runs
from roboticks_tasks.sim.platform.junit import MOST_CASES, Case, Reference, Report
from tests.conditions import until
from tests.contract.platform_process import PROJECT, Platform, running
from tests.contract.results import NODEID, case, ingest, post, suite, upload_address

FAILED = '<failure message="arm did not move">a traceback</failure>'


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running(tmp_path_factory.mktemp("runs") / "platform", "--broker", "builtin") as platform:
        yield platform
        assert "Traceback" not in platform.log


def send(platform: Platform, address: dict[str, Any], content: bytes) -> int:
    """Send a file to its signed address without any credential, and return the status."""
    response = platform.http.post(address["url"], data=address["fields"], files={"file": ("f", content)})
    return int(response.status_code)


def test_results_become_a_run_with_cases_and_what_they_confirm(platform: Platform) -> None:
    skipped = case("c", "<skipped message='no arm'/>")
    told = {"run_name": "told", "branch": "main", "commit_sha": "abc", "pr_number": 7, "ci_provider": "gitlab-ci"}
    answer = ingest(platform, suite(case("a", confirms="REQ-1,REQ-2,REQ-1"), case("b", FAILED), skipped), metadata=told)
    assert (answer["cases_ingested"], answer["confirms_links_created"], answer["status"]) == (3, 2, "failed")
    run = platform.get(f"test-runs/{answer['test_run_id']}")
    counts = [run[f"tests_{key}"] for key in ("total", "passed", "failed", "skipped")]
    assert counts == [3, 1, 1, 1]
    assert {key: run[key] for key in told} == told
    assert run["duration_seconds"] == 1.5
    cases = platform.get(f"test-runs/{answer['test_run_id']}/test-cases")["test_cases"]
    assert [each["nodeid"] for each in cases] == [NODEID.format(name) for name in "abc"]
    assert [each["status"] for each in cases] == ["passed", "failed", "skipped"]
    assert cases[1]["message"] == "arm did not move"
    assert cases[0]["confirms"] == ["REQ-1", "REQ-2"]


def test_results_of_the_same_name_replace_those_that_are_there(platform: Platform) -> None:
    first = ingest(platform, suite(case("a", FAILED)), name="again")
    second = ingest(platform, suite(case("a"), case("b")), name="again")
    assert first["test_run_id"] == second["test_run_id"]
    run = platform.get("test-runs/again")
    assert (run["status"], run["tests_total"], run["tests_failed"]) == ("passed", 2, 0)


def test_runs_are_listed_newest_first_by_status_and_branch(platform: Platform) -> None:
    for name, body in (("one", ""), ("two", FAILED), ("three", "")):
        ingest(platform, suite(case("a", body)), metadata={"run_name": name, "branch": "listed"})
    names = [run["run_name"] for run in platform.get("test-runs", branch="listed")]
    assert sorted(names) == ["one", "three", "two"]
    assert [run["run_name"] for run in platform.get("test-runs", branch="listed", status="failed")] == ["two"]
    assert len(platform.get("test-runs", branch="listed", limit=2)) == 2
    assert platform.get("test-runs", branch="listed", status="queued") == []


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))


@pytest.mark.parametrize(
    ("junit", "words"),
    [
        pytest.param(
            f'<!DOCTYPE a [<!ENTITY l0 "ha">{LAUGHS}]><testsuites>&l9;</testsuites>', "document type", id="a bomb"
        ),
        pytest.param(
            '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><testsuites>&x;</testsuites>',
            "document type",
            id="somebody else's file",
        ),
        pytest.param('<!DOCTYPE a SYSTEM "http://127.0.0.1:1/a.dtd"><testsuites/>', "document type", id="a remote DTD"),
        pytest.param("<testsuites>", "not well-formed", id="cut off"),
        pytest.param("", "not well-formed", id="empty"),
        pytest.param("<html/>", "begins with <html>", id="another kind of XML"),
        pytest.param(suite("<a>" * 60 + "</a>" * 60), "deeper than", id="deep"),
        pytest.param(suite().replace('value="2"', 'value="3"'), "known are 1 and 2", id="a later schema"),
        pytest.param(suite("<testcase/>" * (MOST_CASES + 1)), "more than", id="too many cases"),
        pytest.param(b'<?xml version="1.0" encoding="nonsense"?><testsuites/>', "junit:", id="no encoding"),
        pytest.param(gzip.compress(b"<testsuites/>"), "not well-formed", id="compressed"),
    ],
)
def test_xml_that_is_none_or_could_do_harm_is_refused_with_one_sentence(
    platform: Platform, junit: str | bytes, words: str
) -> None:
    response = post(platform, junit, name="hostile")
    assert response.status_code == 422
    assert words in response.json()["detail"]
    assert platform.call("GET", "test-runs/hostile").status_code == 404


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ("", "metadata"),
        ("[]", "metadata"),
        ("{}", "run_name: missing"),
        ({"run_name": "x", "pr_number": "7"}, "pr_number"),
        ({"run_name": "x" * 201}, "run_name: is longer"),
    ],
)
def test_metadata_that_makes_no_sense_is_refused(platform: Platform, metadata: Any, words: str) -> None:
    response = post(platform, suite(case("a")), metadata=metadata)
    assert response.status_code == 422
    assert words in response.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"--b\r\n", 422),
        (b"--b--\r\n", 422),
        (b"no boundary", 422),
        (b"--b\r\nContent-Type: x\r\n\r\nno name\r\n--b--\r\n", 422),
        (b"--b\r\n" + b"x" * 20_000 + b"\r\n\r\n--b--", 422),
        (b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b"x" * 70_000 + b"\r\n--b--", 422),
        (b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' * 60 + b"--b--", 422),
        (b'--b\r\nContent-Disposition: form-data; name="junit"; filename="r"\r\n\r\n' + b"x" * 16_100_000, 413),
    ],
)
def test_a_form_that_is_none_or_too_large_is_refused(platform: Platform, body: bytes, status: int) -> None:
    headers = {"X-API-Key": platform.key, "Content-Type": "multipart/form-data; boundary=b"}
    assert platform.call("POST", "ingest/junit", data=body, headers=headers).status_code == status
    assert not [path for path in (platform.folder / "files").iterdir() if path.name.startswith(".")]


def test_files_come_to_the_run_whose_results_name_them_and_can_be_had_again(platform: Platform) -> None:
    content = bytes(range(256)) * 9000
    mine, whole = upload_address(platform, "arm.log", len(content)), upload_address(platform, "../../report.html", 3)
    assert [send(platform, mine, content), send(platform, mine, content)] == [204, 204]
    assert send(platform, whole, b"<p>") == 204
    results = suite(case("a", attach={"logs": mine["s3_uri"]})).replace(
        "</properties>", f'<property name="roboticks.attach.attachments" value="{whole["s3_uri"]}"/></properties>', 1
    )
    run = ingest(platform, results, name="with files")["test_run_id"]
    keys = [each["key"] for each in platform.get(f"test-runs/{run}/files")["files"]]
    folder = store_files.case_folder(NODEID.format("a"))
    assert sorted(keys) == [f"test-runs/{run}/attachments/report.html", f"test-runs/{run}/{folder}logs/arm.log"]
    listed = platform.get(f"test-runs/{run}/files", nodeid=NODEID.format("a"))["files"]
    assert [(each["key"], each["size"]) for each in listed] == [(keys[1], len(content))]
    found = platform.call("GET", f"test-runs/{run}/files/download", params={"path": keys[1]}).json()
    response = platform.http.get(found["download_url"])
    assert response.content == content
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["content-disposition"].startswith("attachment")
    assert send(platform, mine, content) == 409, "what results have named stays as it is"


def test_a_signed_address_is_good_for_one_file_one_direction_and_one_size(platform: Platform) -> None:
    address = upload_address(platform, "x", 3)
    assert send(platform, address, b"four") == 413
    assert send(platform, address, b"22") == 422
    other = upload_address(platform, "y", 3)
    swapped = other["url"].partition("?")[0] + "?" + address["url"].partition("?")[2]
    assert send(platform, {**address, "url": swapped}, b"333") == 401
    assert send(platform, {**address, "url": address["url"].replace("expires=", "expires=9")}, b"333") == 401
    assert platform.http.get(address["url"].replace("/uploads/", "/downloads/")).status_code == 401
    assert send(platform, {**address, "url": address["url"].partition("?")[0]}, b"333") == 401
    assert send(platform, address, b"333") == 204


def test_an_address_that_has_expired_is_refused(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    from roboticks_tasks.sim.platform.serving import sign

    address = upload_address(platform, "x", 3)
    url, past = address["url"].partition("?")[0], str(int(time.time()) - 1)
    signature = sign(platform.key, url.removeprefix(platform.ready["url"]), past)
    response = platform.http.post(f"{url}?expires={past}&signature={signature}", files={"file": ("f", b"333")})
    assert (response.status_code, response.json()) == (
        401,
        {"detail": "the address has expired: ask for a new one"},
    )


def test_a_sender_that_hangs_up_leaves_nothing(platform: Platform) -> None:
    import socket
    from urllib.parse import urlsplit

    address = urlsplit(upload_address(platform, "x", 1_000_000)["url"])
    head = (
        f"POST {address.path}?{address.query} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: 1000200\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    )
    folder = platform.folder / "files"
    with socket.create_connection(("127.0.0.1", address.port or 0)) as connection:
        connection.sendall(head.encode() + b"x" * 100_000)
        until(lambda: [path for path in folder.iterdir() if path.name.startswith(".")], "it is being received")
    until(lambda: not [path for path in folder.iterdir() if path.name.startswith(".")], "it is gone")


def token(platform: Platform, **body: Any) -> tuple[int, dict[str, str]]:
    """Make an ingest token and return its id and the header that it stands in."""
    made = platform.call("POST", "ingest-tokens", json={"name": "ci", **body})
    assert made.status_code == 201, made.text
    return made.json()["id"], {"Authorization": f"Bearer {made.json()['token']}"}


def test_an_ingest_token_sends_results_and_does_nothing_else(platform: Platform) -> None:
    _, headers = token(platform)
    wanted = {"files": [{"filename": "a", "size_bytes": 1, "content_type": "x/y"}]}
    assert post(platform, suite(case("a")), name="by token", headers=headers).status_code == 201
    assert platform.call("POST", "ingest/mcap-upload-urls", json=wanted, headers=headers).status_code == 200
    assert platform.call("POST", "test-runs/x/progress", json={"events": []}, headers=headers).status_code == 202
    for path in ("test-runs", "devices", "ingest-tokens", "test-runs/x"):
        assert platform.call("GET", path, headers=headers).status_code == 403, path
    assert platform.call("GET", f"{PROJECT}/test-runs", headers={**headers, "X-Project-Secret": "x"}).status_code == 401


def test_a_token_that_is_used_up_expired_revoked_or_made_up_is_refused(platform: Platform) -> None:
    once, late, revoked = token(platform, max_uses=1), token(platform, expires_at="2020-01-01"), token(platform)
    assert platform.call("DELETE", f"ingest-tokens/{revoked[0]}").json()["revoked_at"] is not None
    assert post(platform, suite(case("a")), name="once", headers=once[1]).status_code == 201
    made_up = {"Authorization": "Bearer rbtk_ing_" + "0" * 48}
    for headers, words in ((once[1], "used"), (late[1], "expired"), (revoked[1], "revoked"), (made_up, "wrong")):
        response = post(platform, suite(case("a")), name="once", headers=headers)
        assert response.status_code == 401
        assert words in response.json()["detail"]
        assert platform.call("POST", "ingest/mcap-upload-urls", json={}, headers=headers).status_code == 401
    assert platform.get("test-runs/once")["tests_total"] == 1


def test_the_raw_token_is_shown_once_and_never_stored(platform: Platform) -> None:
    identity, headers = token(platform, description="of the lab")
    raw = headers["Authorization"].partition(" ")[2]
    assert raw.startswith("rbtk_ing_")
    listed = platform.get("ingest-tokens")
    assert raw not in str(listed)
    assert next(each for each in listed if each["id"] == identity)["token_prefix"] == raw[:15]
    for path in platform.folder.glob("platform.db*"):
        assert raw.encode() not in path.read_bytes()


def started(name: str, at: float) -> dict[str, Any]:
    return {"event": "case-started", "nodeid": name, "at": at}


def finished(name: str, at: float, outcome: str = "passed") -> dict[str, Any]:
    return {"event": "case-finished", "nodeid": name, "at": at, "outcome": outcome, "begin": at, "duration": 0.1}


def tell(platform: Platform, name: str, *events: dict[str, Any], total: int | None = None) -> int:
    response = platform.call("POST", f"test-runs/{name}/progress", json={"events": events, "total": total})
    assert response.status_code == 202, response.text
    return int(response.json()["accepted"])


def counts(platform: Platform, name: str) -> list[Any]:
    run = platform.get(f"test-runs/{name}")
    return [run["status"], *(run[f"tests_{key}"] for key in ("total", "passed", "failed"))]


def test_a_run_is_seen_while_it_goes_on_and_ends_with_its_results(platform: Platform) -> None:
    assert tell(platform, "live", started("a", 1.0), total=5) == 1
    assert counts(platform, "live") == ["running", 5, 0, 0]
    assert tell(platform, "live", finished("a", 2.0), started("b", 2.0), finished("b", 3.0, "failed")) == 3
    assert counts(platform, "live") == ["running", 5, 1, 1]
    assert "live" in [run["run_name"] for run in platform.get("test-runs", status="running", limit=100)]
    identity = platform.get("test-runs/live")["id"]
    assert ingest(platform, suite(case("a"), case("b")), name="live")["test_run_id"] == identity
    assert counts(platform, "live") == ["passed", 2, 2, 0]
    assert tell(platform, "live", started("c", 9.0)) == 0, "a message that comes late changes nothing"
    assert counts(platform, "live") == ["passed", 2, 2, 0]


def test_progress_that_comes_twice_or_in_disorder_counts_once(platform: Platform) -> None:
    first, second = [started("a", 1.0), finished("a", 1.0)], [started("a", 2.0), finished("a", 3.0, "failed")]
    assert [tell(platform, "twice", *first), tell(platform, "twice", *first)] == [2, 0]
    assert tell(platform, "twice", *second) == 2
    assert tell(platform, "twice", *first) == 0
    assert counts(platform, "twice") == ["running", 1, 0, 1]
    assert tell(platform, "twice", finished("a", 4.0, "rerun"), started("a", 4.0)) >= 1
    assert counts(platform, "twice") == ["running", 1, 0, 0], "it is run again"


def test_the_events_that_the_tests_write_are_understood(platform: Platform) -> None:
    import msgspec

    from roboticks_tasks.events import CaseFinished, CaseStarted

    begun = CaseStarted(nodeid="n")
    ended = CaseFinished(nodeid="n", classname="c", name="t", outcome="error", begin=1.0, duration=0.5, message="m")
    body = msgspec.json.encode({"events": [begun, ended], "total": None})
    assert platform.call("POST", "test-runs/ours/progress", data=body).json() == {"accepted": 2}
    (shown,) = platform.get("test-runs/ours/test-cases")["test_cases"]
    assert [shown[key] for key in ("name", "classname", "status", "message")] == ["t", "c", "error", "m"]


def test_runs_and_files_survive_a_restart_and_unfinished_files_do_not(tmp_path: Path) -> None:
    folder = tmp_path / "platform"
    with running(folder, "--broker", "builtin") as first:
        address = upload_address(first, "a.log", 3)
        assert send(first, address, b"log") == 204
        ingest(first, suite(case("a", attach={"logs": address["s3_uri"]})), name="kept")
        first.kill()
    (folder / "files" / ".left.roboticks-unfinished").write_bytes(b"half")
    (folder / "files" / "stray").write_bytes(b"nobody knows it")
    with running(folder, "--broker", "builtin") as second:
        assert len(second.get("test-runs/kept/files")["files"]) == 1
        until(lambda: len(list((folder / "files").iterdir())) == 1, "only the known file is left")


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(store.connect(tmp_path / "platform.db")) as connection:
        yield connection


def test_the_oldest_files_make_room_for_new_ones(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_files, "QUOTA", 100)
    (old,), _ = store_files.announce(connection, [("old", 60)], patience=10**9)
    store_files.stored(connection, old.id)
    (new,), gone = store_files.announce(connection, [("new", 60)], patience=10**9)
    assert gone == [old.id]
    with pytest.raises(store_files.FullError):  # what was announced may still come
        store_files.announce(connection, [("third", 60)], patience=10**9)
    assert store_files.find(connection, new.id)


def test_old_runs_are_forgotten_with_their_files_and_silent_ones_are_over(
    connection: sqlite3.Connection, tmp_path: Path
) -> None:
    (file,), _ = store_files.announce(connection, [("a", 1)], patience=10**9)
    store_files.stored(connection, file.id)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / file.id).write_bytes(b"x")
    report = Report(
        [Case("n", "c", "t", "passed", 1.0, None, ())],
        [Reference(None, "logs", f"{store_files.BUCKET}{file.id}/a")],
        None,
        1.0,
    )
    run = store_test_runs.ingest(connection, report, name="old", metadata={}).id
    assert store_files.by_key(connection, run, "logs/a") == file.id
    store_test_runs.progress(connection, "silent", [], total=None)
    later = (time.time_ns() // 1000) + 1
    assert store_test_runs.give_up(connection, before=later) == 1
    assert (store_test_runs.find(connection, "silent") or {})["status"] == "error"
    while store_retention.forget(connection, before=later):
        pass
    assert store_test_runs.find(connection, "old") is None
    store_retention.forget_files(connection, tmp_path / "files", before=0)
    assert list((tmp_path / "files").iterdir()) == []


def test_a_file_of_the_second_version_gets_the_new_tables_and_keeps_what_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "platform.db"
    with closing(sqlite3.connect(path)) as old:
        for statement in store.SCHEMA:
            if statement not in store.UPGRADE_2:
                old.execute(statement)
        old.execute(
            "INSERT INTO devices (id, serial, dsn, name, type, environment, test_device, created_at)"
            " VALUES ('d', 's', 'SIM-1', 'n', 't', 'test', 1, 1)"
        )
        old.execute("PRAGMA user_version = 2")
        old.commit()
    with closing(store.connect(path)) as connection:
        assert connection.execute("SELECT dsn FROM devices").fetchone()[0] == "SIM-1"
        assert store_test_runs.progress(connection, "x", [], total=1) == 0
        assert connection.execute("PRAGMA user_version").fetchone()[0] == store.VERSION
