"""Settings and faults of the simulated device manager: what beats what, and one clear sentence for what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from roboticks_tasks.sim.device_manager import autostart, faults, settings
from roboticks_tasks.sim.device_manager.deployment import CompositionError
from roboticks_tasks.sim.device_manager.settings import SettingsError


def write(root: Path, text: str, *, place: str = "device.yaml") -> Path:
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture(autouse=True)
def no_file_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(settings, "SYSTEM_FILE", str(tmp_path / "not-there.yaml"))


def test_without_anything_the_defaults_hold(tmp_path: Path) -> None:
    found = settings.load({"ROBOTICKS_ROOT": str(tmp_path)})

    assert (found.root, found.api_url, found.project_secret) == (tmp_path, "https://api.roboticks.io", "")
    assert (found.test_device, found.heartbeat_interval, found.bus_port) == (False, 5.0, None)
    assert (found.autostart, found.auto_session, found.type) == ((), False, "robot")
    assert (found.composition, found.composition_mode) == (None, None)


def test_the_default_root_is_the_platforms() -> None:
    assert settings.root_of({}) == Path("/opt/roboticks")


def test_the_environment_beats_the_file_and_the_file_beats_the_defaults(tmp_path: Path) -> None:
    write(tmp_path, "api_url: https://file:1\nproject_secret: from-file\ntest_device: false\nheartbeat_interval: 2")

    found = settings.load(
        {"ROBOTICKS_ROOT": str(tmp_path), "ROBOTICKS_API_URL": "https://env:2/", "TEST_DEVICE": "true"}
    )

    assert (found.api_url, found.project_secret) == ("https://env:2", "from-file")
    assert (found.test_device, found.heartbeat_interval) == (True, 2.0)


def test_the_first_device_yaml_in_the_documented_order_is_read(tmp_path: Path) -> None:
    write(tmp_path, "name: second", place="etc/device.yaml")
    assert settings.load({"ROBOTICKS_ROOT": str(tmp_path)}).name == "second"

    write(tmp_path, "name: first")
    assert settings.load({"ROBOTICKS_ROOT": str(tmp_path)}).name == "first"


def test_the_systems_file_is_read_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "SYSTEM_FILE", str(write(tmp_path, "name: system", place="system/device.yaml")))

    assert settings.load({"ROBOTICKS_ROOT": str(tmp_path / "root")}).name == "system"


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, "# nothing yet\n")

    assert settings.load({"ROBOTICKS_ROOT": str(tmp_path)}).type == "robot"


def test_the_secret_is_not_in_the_repr(tmp_path: Path) -> None:
    found = settings.load({"ROBOTICKS_ROOT": str(tmp_path), "ROBOTICKS_PROJECT_SECRET": "hush"})

    assert found.project_secret == "hush"
    assert "hush" not in repr(found)


@pytest.mark.parametrize(("text", "autostart"), [("all", None), ("[A, B]", ("A", "B")), ("[]", ())])
def test_autostart_is_a_list_or_all(tmp_path: Path, text: str, autostart: tuple[str, ...] | None) -> None:
    write(tmp_path, f"autostart: {text}")

    assert settings.load({"ROBOTICKS_ROOT": str(tmp_path)}).autostart == autostart


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "heartbeat_interval: 0",
            "heartbeat_interval must be a number of seconds above 0 and at most a day (86400), got 0",
        ),
        (
            "heartbeat_interval: .inf",
            "heartbeat_interval must be a number of seconds above 0 and at most a day (86400), got inf",
        ),
        (
            "heartbeat_interval: yes",
            "heartbeat_interval must be a number of seconds above 0 and at most a day (86400), got True",
        ),
        ("heartbeat_interval: 86401", "heartbeat_interval must be a number of seconds above 0 and at most a day"),
        ("name: 2026-13-45", "not YAML: month must be in 1..12"),
        ("[" * 20_000, "not YAML: "),
        ("#" * 300_000, "larger than 256 KiB"),
        ("bus_port: 70000", "bus_port must be a port number (0 for any free one), got 70000"),
        ("test_device: maybe", "test_device must be true or false, got 'maybe'"),
        ("api_url: ftp://here", "api_url must be an http or https address in ASCII, got 'ftp://here'"),
        ("api_url: http://", "api_url must be an http or https address in ASCII, got 'http:'"),
        ("api_url: https://a:port", "api_url must be an http or https address in ASCII, got 'https://a:port'"),
        ("api_url: https://a..b", "api_url must be an http or https address in ASCII, got 'https://a..b'"),
        ("api_url: https://müller.de", "api_url must be an http or https address in ASCII, got 'https://müller.de'"),
        ("api_url: https://a/b c", "api_url must be an http or https address in ASCII, got 'https://a/b c'"),
        ("api_url: http://10.0.0.1", "api_url must begin with https://, http would send the project secret in clear"),
        ("api_url: http://localhost.evil.org", "api_url must begin with https://"),
        ("autostart: HelloWorld", "autostart must be a list of composition names or 'all', got 'HelloWorld'"),
        ("name: 7", "name must be a text, got 7"),
        ("naem: x", "unknown key 'naem' (known: name, type, api_url,"),
        ("- a", "must be a mapping of keys to values, got list"),
        ("a: [", "not YAML: while parsing"),
    ],
)
def test_a_wrong_file_is_one_sentence_with_file_and_key(tmp_path: Path, text: str, sentence: str) -> None:
    path = write(tmp_path, text)

    with pytest.raises(SettingsError) as caught:
        settings.load({"ROBOTICKS_ROOT": str(tmp_path)})

    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert sentence in message or sentence.replace("'http:'", "'http://'") in message
    assert "\n" not in message


def test_a_secret_with_a_line_break_is_refused_without_being_shown(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        settings.load({"ROBOTICKS_ROOT": str(tmp_path), "ROBOTICKS_PROJECT_SECRET": "hush\nX-Other: header"})

    assert "ROBOTICKS_PROJECT_SECRET" in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("url", ["https://me:hush@host", "http://me:hush@127.0.0.1", "http://me:hush@[bad", "hush@x"])
def test_an_address_with_a_password_is_refused_without_being_shown(tmp_path: Path, url: str) -> None:
    with pytest.raises(SettingsError, match="ROBOTICKS_API_URL: must not hold a user name or a password") as caught:
        settings.load({"ROBOTICKS_ROOT": str(tmp_path), "ROBOTICKS_API_URL": url})

    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://localhost:1", "http://127.0.0.1:8080/base", "http://[::1]:1", "https://a.b"])
def test_http_is_for_this_machine_only(tmp_path: Path, url: str) -> None:
    assert settings.load({"ROBOTICKS_ROOT": str(tmp_path), "ROBOTICKS_API_URL": url}).api_url == url


@pytest.mark.parametrize(
    ("in_file", "variable", "names"),
    [("all", "B", ("B",)), ("[A, B]", "A", ("A",)), ("[]", "A", ()), ("all", "", ("A", "B")), ("[A]", "", ("A",))],
)
def test_roboticks_composition_leaves_one_of_the_autostart(
    tmp_path: Path, in_file: str, variable: str, names: tuple[str, ...]
) -> None:
    write(tmp_path, f"autostart: {in_file}")
    environ = {"ROBOTICKS_ROOT": str(tmp_path), "ROBOTICKS_COMPOSITION": variable, "ROBOTICKS_COMPOSITION_MODE": "dev"}

    found = settings.load(environ)

    assert tuple(autostart.chosen(found, ("A", "B"))) == names
    assert found.composition_mode == "dev"


@pytest.mark.parametrize("in_file", ["all", "[A]"])
def test_a_roboticks_composition_that_is_none_of_them_is_refused(tmp_path: Path, in_file: str) -> None:
    write(tmp_path, f"autostart: {in_file}")
    found = settings.load({"ROBOTICKS_ROOT": str(tmp_path), "ROBOTICKS_COMPOSITION": "C"})

    with pytest.raises(CompositionError, match=r"ROBOTICKS_COMPOSITION: 'C' is not among the compositions to start"):
        autostart.chosen(found, ("A",))


@pytest.mark.parametrize(
    ("variable", "value"),
    [("TEST_DEVICE", "perhaps"), ("ROBOTICKS_API_URL", "here"), ("ROBOTICKS_SIM_FAULT", "explodes")],
)
def test_a_wrong_variable_is_named(tmp_path: Path, variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=variable):
        settings.load({"ROBOTICKS_ROOT": str(tmp_path), variable: value})


def test_faults_have_defaults_and_take_seconds() -> None:
    assert faults.parse("") == {}
    assert faults.parse("registers-late, no-session") == {"registers-late": 2.0, "no-session": 0.0}
    assert faults.parse("dies-later=1.5") == {"dies-later": 1.5}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dies-later=soon", "not a number"),
        ("dies-later=-1", "not a number"),
        ("dies-later=nan", "not a number"),
        ("no-session=1", "takes no seconds"),
        ("sleeps", "known: dies-at-start, dies-later"),
    ],
)
def test_a_wrong_fault_is_one_sentence(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        faults.parse(text)
