"""Which values are secret: by their names, wherever they stand."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import msgspec
import pytest

from roboticks_tasks.backend.secrets import redactor_of, secrets_of
from roboticks_tasks.lifecycle.support.discretion import public, redact_file
from roboticks_tasks.models import Composition, Deployment, Dsn, StepResult, TeardownPart, TeardownReport
from roboticks_tasks.profiles import Profile
from roboticks_tasks.redaction import NOTHING, Redactor, is_secret, without_ours
from roboticks_tasks.reporting import junit
from roboticks_tasks.state import RunState
from roboticks_tasks.targets.ssh.invocation import environment


def profile(**parts: Any) -> Profile:
    """Return a profile."""
    return msgspec.convert({"backend": "https://platform.example", **parts}, Profile)


@pytest.mark.parametrize(
    "name",
    [
        "ROBOTICKS_PROJECT_SECRET",
        "ROBOTICKS_API_KEY",
        "ROBOTICKS_UPLOAD_TOKEN",
        "GITHUB_TOKEN",
        "CI_JOB_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "DB_PASSWD",
        "DOCKER_AUTH_CREDENTIALS",
        "GH_PAT",
        "TOKEN_2",
        "--api-key",
        "privateKey",
        "X-Amz-Signature",
        "CI_JOB_JWT_V2",
        "MYSQL_PWD",
        "SSHPASS",
        "Authorization",
        "pass",
    ],
)
def test_a_name_says_that_its_value_is_secret(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name", ["PATH", "PWD", "OLDPWD", "SSH_ASKPASS", "MONKEY", "BYPASS", "KEYBOARD", "SSH_AUTH_SOCK", "-k", ""]
)
def test_other_names_say_nothing(name: str) -> None:
    assert not is_secret(name)


def test_the_environment_tells_its_secrets_and_the_passwords_of_its_urls(tmp_path: Path) -> None:
    environ = {
        "GITHUB_TOKEN": "one-token",
        "https_proxy": "http://robot:pa%40ss-word@proxy:3128",
        "INDEX": "https://bare-token@registry.example/simple",
        "REPOSITORY": "ssh://git-user@host/x",
        "DEPLOY_KEY": str(tmp_path),
        "EMPTY_KEY": "",
        "HOME": "/home/robot",
    }
    assert set(secrets_of(None, environ)) == {"one-token", "pa%40ss-word", "pa@ss-word", "bare-token"}


@pytest.mark.parametrize(
    "value", ["true", "1", "default", "production", "Development", "RASPBERRY", "hunter2", "1790000000", "127.0.0.1"]
)
def test_a_short_value_a_word_and_a_number_are_no_secrets_but_where_the_profile_or_the_platform_has_them(
    value: str,
) -> None:
    assert secrets_of(None, {"CACHE_KEY": value, "URL": f"postgres://robot:{value}@127.0.0.1/test"}) == ()
    assert secrets_of(None, {"ROBOTICKS_API_KEY": value}) == (value,)
    known = profile(device_manager={"environment": {"DEVICE_KEY": value}})
    assert secrets_of(known, {"CACHE_KEY": value}) == (value,)
    known = profile(target={"kind": "serial", "login": {"password_variable": "LAB_LOGIN"}})
    assert secrets_of(known, {"LAB_LOGIN": value}) == (value,)


def test_the_name_of_a_file_is_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deploy-key.pem").touch()
    names = ["./deploy-key.pem", str(tmp_path / "deploy-key.pem")]
    assert secrets_of(None, {"ONE_KEY": names[0], "TWO_KEY": names[1], "THREE_KEY": "deploy-key.pem"}) == (
        "deploy-key.pem",
    )


def test_a_profile_tells_the_secrets_of_its_device_its_console_its_source_and_its_commands() -> None:
    known = profile(
        target={"kind": "serial", "login": {"password_variable": "LAB_LOGIN"}},
        boards=[
            {
                "id": "one",
                "identity": {"command": ["ask", "--pass", "of-identity"], "equals": "1"},
                "power": {
                    "state": ["sh", "-c", "pdu --token 'in script' state; curl -H 'Authorization: Bearer in-header' x"],
                    "on": ["pdu", "--password", "behind-option", "on"],
                    "off": ["pdu", "--token=in-option", "off"],
                    "cycle": ["curl", "-u", "admin:for-curl", "http://admin:in-url@pdu/cycle"],
                },
            }
        ],
        device_manager={
            "environment": {"CAMERA_SECRET": "of-device", "CAMERA": "front-left"},
            "source": {"url": "https://ci:of-source@files.example/dm?X-Amz-Signature=signed-so&version=1.2.3"},
            "arguments": ["--api-key", "of-manager"],
            "control": {"stop_session": ["{binary}", "stop", "--password=of-control"]},
        },
        tests={"command": "pytest --robot-password=of-tests tests"},
    )
    assert set(secrets_of(known, {"LAB_LOGIN": "of-console", "OTHER": "not-secret"})) == {
        *("behind-option", "in-option", "for-curl", "in-url", "of-device", "of-source", "signed-so"),
        *("of-manager", "of-tests", "of-console", "of-identity", "of-control", "in script", "in-header"),
        " Bearer in-header",
    }


def test_secrets_that_the_local_platform_makes_later_are_redacted_as_soon_as_they_are_there(tmp_path: Path) -> None:
    redactor = redactor_of(profile(backend="local", local_platform={"directory": str(tmp_path)}), {})
    stream = redactor.stream()
    assert redactor.text("rbtk_0123456789") == "rbtk_0123456789"
    (tmp_path / "project-secret").write_text("rbtk_0123456789\n")
    assert redactor.text("rbtk_0123456789") == "***"
    (tmp_path / "api-key").write_text("key_9876543210\n")
    assert stream.feed(b"key_9876543210, rbtk_0123456789.") == b"***, ***."


def test_the_platforms_secrets_are_kept_from_programs_that_have_no_use_for_them() -> None:
    environ = {"ROBOTICKS_PROJECT_SECRET": "a", "RBTK_TOKEN": "b", "ROBOTICKS_ROOT": "c", "PDU_PASSWORD": "d"}
    assert without_ours(environ) == {"ROBOTICKS_ROOT": "c", "PDU_PASSWORD": "d"}


def test_ssh_does_not_even_have_what_a_config_could_have_it_send(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBOTICKS_API_KEY", "of-the-platform")
    monkeypatch.setenv("ROBOTICKS_ROOT", "/opt/roboticks")
    assert "ROBOTICKS_API_KEY" not in environment()
    assert environment()["ROBOTICKS_ROOT"] == "/opt/roboticks"


def test_what_others_have_said_is_redacted_in_a_run_and_what_the_next_step_needs_is_not() -> None:
    run = RunState(
        run_id="raspberry-1",
        profile="raspberry",
        started_at="now",
        board_id="raspberry-01",
        root="/opt/raspberry",
        steps=(StepResult(name="deploy", outcome="failed", duration=1, error="said raspberry"),),
        dsn=Dsn(value="raspberry", source="log"),
        deployment=Deployment(
            path="/raspberry",
            mode="prod",
            compositions=(Composition(name="a", mode="raspberry", status="c", error="raspberry"),),
        ),
        teardown=TeardownReport(parts=(TeardownPart(name="log", ok=False, detail="raspberry!", duration=0),)),
    )
    kept = public(run, Redactor(["raspberry"]))
    assert kept.steps[0].error == "said ***"
    assert kept.dsn == Dsn(value="raspberry", source="log")
    assert kept.deployment is not None
    assert kept.deployment.compositions == (Composition(name="a", mode="raspberry", status="c", error="***"),)
    assert kept.teardown is not None
    assert kept.teardown.parts[0].detail == "***!"
    assert (kept.run_id, kept.profile, kept.board_id, kept.root) == (
        *("raspberry-1", "raspberry", "raspberry-01", "/opt/raspberry"),
    )
    assert kept.deployment.path == "/raspberry"
    assert public(run, NOTHING) == run


def test_a_file_of_the_tests_is_redacted_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "pytest.xml"
    redact_file(path, Redactor(["a<b>c&d"]))
    path.write_text('<case message="a&lt;b&gt;c&amp;d"/>')
    redact_file(path, Redactor(["a<b>c&d"]))
    assert path.read_text() == '<case message="***"/>'
    assert list(tmp_path.iterdir()) == [path]


def test_a_large_file_of_the_tests_is_redacted_with_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "pytest.xml"
    case, times = b"<testcase name='%b'/>" % (b"x" * 4000), 4000
    path.write_bytes((b"correct-horse " + case) * times)
    tracemalloc.start()
    try:
        redact_file(path, Redactor(["correct-horse"]))
        assert tracemalloc.get_traced_memory()[1] < path.stat().st_size / 4
    finally:
        tracemalloc.stop()
    assert path.read_bytes() == (b"*** " + case) * times


def test_no_secret_is_taken_for_the_markup_of_a_file_of_the_tests(tmp_path: Path) -> None:
    path = tmp_path / "pytest.xml"
    junit.write_single(path, name="one", seconds=1, kind="failure", message="correct-horse")
    redact_file(path, Redactor(["testcase", "failure", "correct-horse"]).sparing(junit.NAMES))
    assert junit.read_counts(path) == (0, 1, 0, 0)
    assert b'message="***"' in path.read_bytes()
