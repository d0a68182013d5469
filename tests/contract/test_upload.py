"""A run's results and files on the platform: what is sent, to whom, and what not once more."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest

from roboticks_tasks.backend.local import ensure_local, release_local
from roboticks_tasks.errors import ConfigError
from roboticks_tasks.models import Provenance
from roboticks_tasks.profiles import Profile
from roboticks_tasks.upload import UploadReport, upload_run
from roboticks_tasks.upload.files import RESULTS
from roboticks_tasks.upload.form import Form, Piece, Slice
from roboticks_tasks.upload.introduction import metadata
from roboticks_tasks.upload.references import Uploaded, rewritten
from roboticks_tasks.waiting import Deadline
from tests.contract.finished_run import COMMIT, PICTURE, finished_run, local_profile, remote_profile
from tests.contract.platform_process import REPOSITORY, Platform, running

EVERYTHING = ("report.html", "timeline.jsonl", "device-manager.log", "console.log", PICTURE, RESULTS)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running(tmp_path_factory.mktemp("upload") / "platform", "--broker", "builtin") as platform:
        yield platform


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    return tmp_path / "run"


def send(artifacts: Path, profile: Profile, key: str, **options: Any) -> UploadReport:
    """Upload with a key, for which the platform's is the only right one."""
    environ = options.pop("environ", {"ROBOTICKS_API_KEY": key})
    return upload_run(artifacts, profile, environ=environ, deadline=Deadline(20), asked=True, **options)


def test_results_name_the_files_that_went_before_them(platform: Platform, artifacts: Path) -> None:
    profile = remote_profile(platform.ready["url"])
    run = finished_run(artifacts, profile, size=300_000)
    report = send(artifacts, profile, platform.key)
    assert (report.sent, report.problems, report.cases) == (EVERYTHING, (), 2)
    shown = platform.get(f"test-runs/{run.run_id}")
    expected = {"commit_sha": COMMIT, "branch": "main", "pr_number": 7, "ci_provider": "github-actions"}
    assert {key: shown[key] for key in expected} == expected
    files = {each["key"].rpartition("/")[2]: each for each in platform.get(f"test-runs/{run.run_id}/files")["files"]}
    assert {name: each["size"] for name, each in files.items()} == {
        Path(name).name: (artifacts / name).stat().st_size for name in EVERYTHING[:-1]
    }
    assert "/test-cases/" in files["arm.png"]["key"]
    assert "/logs/" in files["console.log"]["key"]
    path = {"path": files["console.log"]["key"]}
    url = platform.call("GET", f"test-runs/{run.run_id}/files/download", params=path).json()["download_url"]
    assert platform.http.get(url).content == (artifacts / "console.log").read_bytes()


def test_a_second_upload_sends_nothing_and_a_later_change_only_itself(platform: Platform, artifacts: Path) -> None:
    profile = remote_profile(platform.ready["url"])
    run = finished_run(artifacts, profile)
    send(artifacts, profile, platform.key)
    again = send(artifacts, profile, platform.key)
    assert (again.sent, again.known, again.problems) == ((), EVERYTHING, ())
    (artifacts / "console.log").write_text("the last words")
    changed = send(artifacts, profile, platform.key)
    assert changed.sent == ("console.log", RESULTS), "results name the new file"
    sizes = {each["size"] for each in platform.get(f"test-runs/{run.run_id}/files")["files"]}
    assert len("the last words") in sizes
    assert len(platform.get(f"test-runs/{run.run_id}/files")["files"]) == 5
    assert json.loads((artifacts / "upload.json").read_bytes())["files"]["console.log"]["sha256"] == (
        hashlib.sha256(b"the last words").hexdigest()
    )


def test_what_was_sent_elsewhere_or_is_noted_in_a_damaged_record_is_sent(platform: Platform, artifacts: Path) -> None:
    profile = remote_profile(platform.ready["url"])
    finished_run(artifacts, profile)
    for record in (b"{", b'{"destination": "elsewhere", "results": "x"}', b"\xff"):
        (artifacts / "upload.json").write_bytes(record)
        assert RESULTS in send(artifacts, profile, platform.key).sent


def test_an_upload_that_was_killed_between_two_files_goes_on_with_the_second(
    platform: Platform, artifacts: Path
) -> None:
    profile = remote_profile(platform.ready["url"])
    run = finished_run(artifacts, profile)
    program = """
import os, signal, sys
from pathlib import Path
from roboticks_tasks.upload import delivery, upload_run
from roboticks_tasks.waiting import Deadline
from tests.contract.finished_run import remote_profile
keep = delivery.write_record
def die(artifacts, sent):
    keep(artifacts, sent)
    if len(sent.files) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
delivery.write_record = die
upload_run(Path(sys.argv[1]), remote_profile(sys.argv[2]), environ=os.environ, deadline=Deadline(20), asked=True)
"""
    words = [sys.executable, "-c", program, str(artifacts), platform.ready["url"]]
    environ = {**os.environ, "ROBOTICKS_API_KEY": platform.key}
    assert subprocess.run(words, env=environ, cwd=REPOSITORY).returncode == -signal.SIGKILL
    assert platform.call("GET", f"test-runs/{run.run_id}").status_code == 404
    report = send(artifacts, profile, platform.key)
    assert (report.known, report.sent, report.problems) == (EVERYTHING[:2], EVERYTHING[2:], ())
    assert len(platform.get(f"test-runs/{run.run_id}/files")["files"]) == 5


def test_an_ingest_token_goes_before_a_key(platform: Platform, artifacts: Path) -> None:
    profile = remote_profile(platform.ready["url"])
    finished_run(artifacts, profile)
    raw = platform.call("POST", "ingest-tokens", json={"name": "ci", "max_uses": 1}).json()["token"]
    environ = {"ROBOTICKS_INGEST_TOKEN": raw, "ROBOTICKS_API_KEY": "wrong"}
    assert send(artifacts, profile, "", environ=environ).problems == ()
    (artifacts / RESULTS).write_text("<testsuites><testsuite/></testsuites>")
    (problem,) = send(artifacts, profile, "", environ=environ).problems
    assert "has been used" in problem
    assert raw not in problem


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, "neither an ingest token nor a key"),
        ({"ROBOTICKS_API_KEY": "wrong"}, "refused by http://127.0.0.1"),
        ({"ROBOTICKS_INGEST_TOKEN": "rbtk_ing_wrong"}, "wrong ingest token"),
    ],
)
def test_without_a_right_credential_one_sentence_says_so(
    platform: Platform, artifacts: Path, environ: dict[str, str], words: str
) -> None:
    profile = remote_profile(platform.ready["url"])
    finished_run(artifacts, profile)
    report = send(artifacts, profile, "", environ=environ)
    (problem,) = report.problems
    assert words in problem
    assert "ROBOTICKS_INGEST_TOKEN" in problem
    assert report.sent == ()


def test_nothing_goes_in_clear_to_another_machine(artifacts: Path) -> None:
    profile = remote_profile("http://platform.example")
    finished_run(artifacts, profile)
    (problem,) = send(artifacts, profile, "key").problems
    assert "in clear" in problem


@pytest.mark.parametrize(
    ("backend", "results", "sends"),
    [("remote", "auto", False), ("remote", "always", True), ("local", "auto", True), ("local", "never", False)],
)
def test_nothing_leaves_this_machine_unless_the_profile_says_so(
    platform: Platform, artifacts: Path, tmp_path: Path, backend: str, results: str, sends: bool
) -> None:
    profile = (
        remote_profile(platform.ready["url"], results=results)
        if backend == "remote"
        else local_profile(tmp_path / "platform", results=results)
    )
    finished_run(artifacts, profile, verdict="passed")
    environ = {"ROBOTICKS_API_KEY": platform.key}
    report = upload_run(artifacts, profile, environ=environ, deadline=Deadline(20))
    assert report.sent == ((RESULTS,) if sends else ()), "files are those of runs that have not passed"
    assert (report.skipped is None) == sends
    assert report.ok


def test_files_of_a_failed_run_go_with_its_results(platform: Platform, artifacts: Path) -> None:
    profile = remote_profile(platform.ready["url"], results="always")
    finished_run(artifacts, profile, verdict="bench-error")
    environ = {"ROBOTICKS_API_KEY": platform.key}
    assert upload_run(artifacts, profile, environ=environ, deadline=Deadline(20)).sent == EVERYTHING


def test_a_local_platform_that_has_ended_comes_up_for_the_upload_and_ends_again(
    artifacts: Path, tmp_path: Path
) -> None:
    profile = local_profile(tmp_path / "platform")
    run = finished_run(artifacts, profile)
    environ = {"ROBOTICKS_API_KEY": "of the real one", "ROBOTICKS_INGEST_TOKEN": "likewise"}
    report = upload_run(artifacts, profile, environ=environ, deadline=Deadline(20))
    assert (report.sent, report.problems) == (EVERYTHING, ())
    assert not (tmp_path / "platform" / "platform.json").exists()
    again = upload_run(artifacts, profile, environ=environ, deadline=Deadline(20))
    assert again.known == EVERYTHING, "it is the same platform, whatever its port"
    with running(tmp_path / "platform", "--broker", "builtin") as platform:
        assert platform.get(f"test-runs/{run.run_id}")["tests_total"] == 2


def test_a_local_platform_that_a_run_still_uses_stays(artifacts: Path, tmp_path: Path) -> None:
    profile = local_profile(tmp_path / "platform")
    finished_run(artifacts, profile)
    backend = ensure_local(profile.local_platform, run=artifacts)
    try:
        report = upload_run(artifacts, profile, backend=backend, environ={}, deadline=Deadline(20))
        assert report.problems == ()
        assert (tmp_path / "platform" / "platform.json").exists()
    finally:
        assert release_local(tmp_path / "platform", run=artifacts) == "stopped"


def test_links_and_other_things_that_a_test_attached_are_not_followed(platform: Platform, artifacts: Path) -> None:
    profile = remote_profile(platform.ready["url"])
    finished_run(artifacts, profile)
    (artifacts / PICTURE).with_name("passwd").symlink_to("/etc/passwd")
    os.mkfifo((artifacts / PICTURE).with_name("pipe"))
    (artifacts / "console.log").unlink()
    (artifacts / "console.log").symlink_to("/etc/hostname")
    report = send(artifacts, profile, platform.key)
    assert set(report.sent) == set(EVERYTHING) - {"console.log"}
    (problem,) = report.problems
    assert "console.log" in problem


def test_a_file_that_is_too_large_is_left_out_and_told(
    platform: Platform, artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from roboticks_tasks.upload import delivery

    monkeypatch.setattr(delivery, "LARGEST_FILE", 99)
    profile = remote_profile(platform.ready["url"])
    finished_run(artifacts, profile)
    report = send(artifacts, profile, platform.key)
    assert report.sent == ("report.html", PICTURE, RESULTS)
    assert [problem.split()[0] for problem in report.problems] == list(EVERYTHING[1:4])
    assert all("at most 99 are sent" in problem for problem in report.problems)


def test_the_words_of_ci_systems_are_those_of_the_platforms_own_client() -> None:
    from roboticks_tasks.state import RunState

    run = RunState(run_id="r", profile="p", started_at="")
    words = {
        ci: metadata(msgspec.structs.replace(run, provenance=Provenance(ci=ci)), {}).get("ci_provider")
        for ci in ("github-actions", "gitlab-ci", "azure-pipelines", "jenkins", "unknown")
    }
    assert list(words.values()) == ["github-actions", "gitlab-ci", "azure-pipelines", "jenkins", None]
    tagged = msgspec.structs.replace(run, provenance=Provenance(ci="gitlab-ci"))
    assert metadata(tagged, {"CI_COMMIT_TAG": "v1"})["release"] == "v1"
    assert "release" not in metadata(run, {"CI_COMMIT_TAG": "v1"}), "it may be another job's"


def test_a_body_is_read_from_disk_in_pieces_of_the_length_that_was_told(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(range(256)) * 1000)
    with (tmp_path / "f").open("rb") as file:
        pieces: list[Piece] = [Slice(0, 10), b"between", Slice(20, 256_000)]
        form = Form(
            {"k": "v"}, file, pieces, field="file", filename='a"b\r\n.log', media_type="x/y", deadline=Deadline(9)
        )
        read = list(form)
    assert max(map(len, read)) <= 1 << 16
    body = b"".join(read)
    assert len(body) == len(form)
    assert b'filename="a%22b%0D%0A.log"' in body
    assert bytes(range(10)) + b"between" + bytes(range(20, 256)) in body


PROPERTY = '<property name="roboticks.attach.logs" value="{}"/>'


@pytest.mark.parametrize(
    ("xml", "named", "of_the_suite"),
    [
        pytest.param("<testsuite><testcase>{}</testcase></testsuite>", 1, 0, id="of a case"),
        pytest.param("<testsuite><!-- {} --><testcase/></testsuite>", 0, 1, id="in a comment"),
        pytest.param(
            "<testsuite><testcase><system-out><![CDATA[{}]]></system-out></testcase></testsuite>", 0, 1, id="text"
        ),
        pytest.param("<testsuite/>", 0, 1, id="an empty suite"),
        pytest.param(
            "<testsuite><testcase><properties></properties></testcase></testsuite>", 0, 1, id="a case has some"
        ),
        pytest.param(
            "<testsuites><testsuite name='>'\n><properties/><testcase/></testsuite></testsuites>", 0, 1, id="odd"
        ),
        pytest.param(
            "<testsuite><properties><property name='a' value='b'/></properties></testsuite>", 0, 1, id="has some"
        ),
        pytest.param("<testsuite name='äöü €'><testcase name='漢'>{}</testcase></testsuite>", 1, 0, id="not ASCII"),
    ],
)
def test_results_stay_as_they_are_but_for_the_files_that_they_name(
    tmp_path: Path, xml: str, named: int, of_the_suite: int
) -> None:
    text = xml.replace("{}", PROPERTY.format("console.log"))
    (tmp_path / RESULTS).write_text(text, encoding="utf-8")
    uri = 's3://b/€ "x"&<.log'
    with (tmp_path / RESULTS).open("rb") as file:
        content = file.read()
        pieces = rewritten(file, len(content), {"console.log": Uploaded("logs", uri)}, tmp_path)
    whole = b"".join(piece if isinstance(piece, bytes) else content[piece.begin : piece.end] for piece in pieces)
    root = ElementTree.parse(io.BytesIO(whole)).getroot()
    values = [each.get("value") for each in root.iter("property")]
    assert values.count(uri) == 1
    in_cases = [each.get("value") for found in root.iter("testcase") for each in found.iter("property")]
    assert (in_cases.count(uri), values.count(uri) - in_cases.count(uri)) == (named, of_the_suite)
    for word in ("äöü €", "漢", "name='a'", "name='>'\n"):
        assert (word in text) == (word.encode() in whole)


@pytest.mark.parametrize("xml", ["<!DOCTYPE a><testsuite/>", "<testsuite>", "", "<a/>"])
def test_what_is_no_junit_file_is_not_sent(tmp_path: Path, xml: str) -> None:
    (tmp_path / RESULTS).write_text(xml)
    with (tmp_path / RESULTS).open("rb") as file, pytest.raises(ConfigError, match="not sent"):
        rewritten(file, len(xml), {}, tmp_path)


def test_the_command_sends_the_latest_run_and_says_so(artifacts: Path, tmp_path: Path) -> None:
    words = ["-m", "roboticks_tasks", "upload", "--profile", "bench.toml", str(artifacts)]
    profile = local_profile(tmp_path / "platform")
    finished_run(artifacts, profile)
    toml = f'backend = "local"\n[local_platform]\ndirectory = "{tmp_path / "platform"}"\nbroker = "builtin"\n'
    (tmp_path / "bench.toml").write_text(toml)
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY)}

    def call(*more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, *words, *more], cwd=tmp_path, env=environ, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done

    assert f"sent: {', '.join(EVERYTHING)}" in call().stdout
    assert json.loads(call("--json").stdout)["known"] == list(EVERYTHING)
