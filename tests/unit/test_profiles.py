"""Profiles: where they are found, which value wins, and one sentence for each mistake."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roboticks_tasks.backend import project_secret
from roboticks_tasks.errors import ConfigError, Verdict
from roboticks_tasks.models import BackendRef
from roboticks_tasks.profiles import Profile, find_profiles, load_profile
from roboticks_tasks.profiles.schema import SCHEMA_FILE, profile_schema

SHIPPED = Path(__file__).parents[2] / "hardware_profiles"
SHIPPED_FILES = sorted(SHIPPED.glob("*.toml"))

SEED_VARIABLES = [
    # variable, key, default of the platform's own runner, another value, the same as the profile holds it
    ("ROBOTICKS_ROOT", "device_manager.root", "/opt/roboticks", "/srv/robot", "/srv/robot"),
    ("ROBOTICKS_API_URL", "backend", "https://api.roboticks.io", "https://eu.roboticks.io", "https://eu.roboticks.io"),
    ("ROBOTICKS_COMPOSITION", "deployment.composition", None, "HelloWorldComposition", "HelloWorldComposition"),
    ("ROBOTICKS_COMPOSITION_MODE", "deployment.mode", "prod", "dev", "dev"),
    ("ROBOTICKS_TEST_COMMAND", "tests.command", "pytest tests/ -v", "pytest -x", "pytest -x"),
    ("ROBOTICKS_TEST_TIMEOUT", "tests.timeout", 3600, "90", 90.0),
]


@pytest.fixture(autouse=True)
def _working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str, path: str = "board.toml") -> Path:
    """Write a profile into the working directory, which is this test's own."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def load(text: str, **environ: str) -> Profile:
    return load_profile(write(text), environ=environ)


def refusal(text: str) -> str:
    """Return the sentence with which a profile with this text is refused."""
    with pytest.raises(ConfigError) as refused:
        load(text)
    assert refused.value.exit_code == 2
    assert refused.value.verdict is Verdict.CONFIG_ERROR
    return str(refused.value)


def value_at(profile: Profile, key: str) -> object:
    value: Any = profile
    for name in key.split("."):
        value = getattr(value, name)
    return value


# --- where profiles are found -----------------------------------------------------------------------------------------


def test_the_working_directory_hides_the_variable_and_the_variable_hides_the_package() -> None:
    environ = {"ROBOTICKS_PROFILES": "lab"}
    assert load_profile("sim", environ=environ).description != "from the lab"
    write('description = "from the lab"', "lab/sim.toml")
    assert load_profile("sim", environ=environ).description == "from the lab"
    write('description = "mine"', "hardware_profiles/sim.toml")
    assert load_profile("sim", environ=environ).description == "mine"


def test_of_several_folders_in_the_variable_the_first_one_wins() -> None:
    write('description = "one"', "one/board.toml")
    write('description = "two"', "two/board.toml")
    environ = {"ROBOTICKS_PROFILES": os.pathsep.join(["nowhere", "one", "two"])}
    assert load_profile("board", environ=environ).description == "one"


def test_the_shipped_profiles_are_found_from_any_folder() -> None:
    found = find_profiles({})
    assert {path.stem for path in SHIPPED_FILES} <= set(found)
    assert list(found) == sorted(found)


def test_a_profile_is_named_after_its_file() -> None:
    write("", "hardware_profiles/bench-3.toml")
    assert load_profile("bench-3", environ={}).name == "bench-3"
    assert load_profile("hardware_profiles/bench-3.toml", environ={}).name == "bench-3"


def test_a_path_is_read_as_it_is_whatever_folders_hold_the_same_name() -> None:
    write('description = "found by name"', "hardware_profiles/board.toml")
    path = write('description = "found by path"', "elsewhere/board.toml")
    assert load_profile(path, environ={}).description == "found by path"
    assert load_profile(str(path), environ={}).description == "found by path"


def test_an_unknown_name_is_answered_with_the_nearest_ones() -> None:
    write("", "hardware_profiles/raspberry-pi.toml")
    with pytest.raises(ConfigError, match=r"unknown profile 'rasberry-pi'.*did you mean raspberry-pi\?"):
        load_profile("rasberry-pi", environ={})


def test_a_name_near_to_none_is_answered_with_all() -> None:
    with pytest.raises(ConfigError, match=r"unknown profile 'zzzzzzzz'.*known: .*runner, sim"):
        load_profile("zzzzzzzz", environ={})


def test_a_path_to_nothing_is_named() -> None:
    with pytest.raises(ConfigError, match=r"profile file nowhere/board\.toml does not exist"):
        load_profile("nowhere/board.toml", environ={})


# --- which value wins -------------------------------------------------------------------------------------------------


def test_an_empty_file_is_a_profile_of_defaults() -> None:
    profile = load("")
    assert (profile.timeouts.dsn, profile.timeouts.session, profile.timeouts.teardown) == (30, 30, 8)
    assert profile.backend == "https://api.roboticks.io"
    assert profile.device_manager.root == "/opt/roboticks"


@pytest.mark.parametrize(("variable", "key", "default", "text", "value"), SEED_VARIABLES)
def test_the_runner_profile_keeps_the_names_and_defaults_of_the_platforms_own_runner(
    variable: str, key: str, default: object, text: str, value: object
) -> None:
    assert value_at(load_profile("runner", environ={}), key) == default
    assert value_at(load_profile("runner", environ={variable: text}), key) == value


@pytest.mark.parametrize(("variable", "key", "default"), [each[:3] for each in SEED_VARIABLES])
def test_an_empty_variable_counts_as_unset(variable: str, key: str, default: object) -> None:
    assert value_at(load_profile("runner", environ={variable: ""}), key) == default


def test_the_project_secret_is_empty_by_default_and_never_enters_a_profile() -> None:
    environ = {"ROBOTICKS_PROJECT_SECRET": "hush-hush"}
    profile = load_profile("runner", environ=environ)
    assert "hush-hush" not in repr(profile)
    backend = BackendRef(url=profile.backend)
    assert project_secret(backend, environ) == "hush-hush"
    assert project_secret(backend, {}) == ""


def test_flag_beats_variable_beats_file_beats_default() -> None:
    path, environ = write('[deployment]\nmode = "file"'), {"ROBOTICKS_COMPOSITION_MODE": "variable"}
    flag = {"deployment.mode": "flag"}
    assert load_profile(path, environ=environ, overrides=flag).deployment.mode == "flag"
    assert load_profile(path, environ=environ, overrides={"deployment.mode": None}).deployment.mode == "variable"
    assert load_profile(path, environ={}).deployment.mode == "file"
    assert load("").deployment.mode == "prod"


def test_the_environment_of_the_process_counts_unless_one_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBOTICKS_COMPOSITION_MODE", "from-outside")
    path = write("")
    assert load_profile(path).deployment.mode == "from-outside"
    assert load_profile(path, environ={}).deployment.mode == "prod"


def test_the_multiplier_stretches_every_timeout_but_the_tests() -> None:
    plain = load("[timeouts]\ndsn = 10\n[tests]\ntimeout = 60")
    slow = load_profile("board.toml", environ={}, timeout_multiplier=2.5)
    assert slow.timeouts.dsn == 25
    stretched, normal = msgspec.structs.asdict(slow.timeouts), msgspec.structs.asdict(plain.timeouts)
    assert stretched == {name: value * 2.5 for name, value in normal.items()}
    assert slow.tests.timeout == 60


def test_relative_folders_of_this_machine_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    profile = load('[device_manager]\nroot = "device"\n[local_platform]\ndirectory = "~/platform"')
    assert profile.device_manager.root == str(tmp_path / "device")
    assert profile.local_platform.directory == "/home/somebody/platform"


def test_the_files_of_ssh_become_absolute_as_other_paths_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    target = load('target = { known_hosts = "lab/known", identity_file = "~/.ssh/lab" }').target
    assert (target.known_hosts, target.identity_file) == (str(tmp_path / "lab/known"), "/home/somebody/.ssh/lab")
    target = load("").target
    assert (target.known_hosts, target.identity_file) == (str(tmp_path / "hardware_profiles/known_hosts"), None)


def test_the_root_on_a_board_is_not_a_folder_of_this_machine() -> None:
    profile = load('device_manager.root = "~/{board}"\ntarget.kind = "ssh"\n[[boards]]\nid = "a"\nhost = "h"')
    assert profile.device_manager.root == "~/{board}"


@pytest.mark.parametrize(
    ("name", "host"), [("jetson", "jetson-01.lab"), ("raspberry-pi", "pi-01.lab"), ("x86", "ipc-01.lab")]
)
def test_the_shipped_profiles_of_boards_have_one_address_to_fill_in(name: str, host: str) -> None:
    profile = load_profile(name, environ={})
    assert (profile.target.kind, [board.host for board in profile.boards]) == ("ssh", [host])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text(min_size=1).filter(lambda text: "\0" not in text))
def test_whatever_text_a_variable_holds_is_taken_letter_for_letter(text: str) -> None:
    profile = load_profile("runner", environ={"ROBOTICKS_COMPOSITION": text, "ROBOTICKS_TEST_COMMAND": text})
    assert (profile.deployment.composition, profile.tests.command) == (text, text)


# --- one sentence per mistake -----------------------------------------------------------------------------------------


def test_an_unknown_key_is_shown_with_file_line_and_the_nearest_key() -> None:
    assert refusal('# a board\n[target]\nkimd = "local"') == (
        "profile board.toml, line 3: unknown key `target.kimd`; did you mean `kind`?"
    )


def test_an_unknown_table_is_shown_with_what_is_known() -> None:
    sentence = refusal("[qqqqq]\n")
    assert "profile board.toml, line 1: unknown key `qqqqq`; known here: backend, boards, deployment, " in sentence


@pytest.mark.parametrize(
    ("text", "path", "near"),
    [
        ('backnd = "local"', "backnd", "backend"),
        ("[tests]\ntime_out = 3", "tests.time_out", "timeout"),
        ('[device_manager.log_patterns]\ndns = "x"', "device_manager.log_patterns.dns", "dsn"),
        ('[device_manager]\nsource = { pth = "x" }', "device_manager.source.pth", "path"),
        ('device_manager.root_ = "x"', "device_manager.root_", "root"),
    ],
)
def test_a_mistyped_key_is_named_by_its_path_and_corrected(text: str, path: str, near: str) -> None:
    last = text.count("\n") + 1
    assert f", line {last}: unknown key `{path}`; did you mean `{near}`?" in refusal(text)


def test_the_line_is_that_of_the_right_table_where_another_one_has_the_same_key() -> None:
    sentence = refusal("[tests]\ntimeout = 5\n\n[deployment]\ntimeout = 5")
    assert "line 5: unknown key `deployment.timeout`" in sentence


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[timeouts]\ndsn = "soon"', "line 2: `timeouts.dsn`: expected `float`, got `str`"),
        ("[timeouts]\ndsn = 0", "line 2: `timeouts.dsn`: expected `float` > 0"),
        ('description = "x"\nbackend = "ftp://x"', "line 2: `backend`: expected `str` matching"),
        ('[target]\nkind = "telepathy"', "line 2: `target.kind`: invalid enum value 'telepathy'"),
        ("[device_manager]\narguments = [1]", "line 2: `device_manager.arguments[0]`: expected `str`, got `int`"),
        ("[device_manager.environment]\nA = 1", "line 1: `device_manager.environment`: expected `str`, got `int`"),
        ("tests = 3", "line 1: `tests`: expected `object`, got `int`"),
        (
            '[device_manager]\nsource = {sha256 = "12"}',
            "line 2: `device_manager.source.sha256`: expected `str` matching",
        ),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_its_line(text: str, expected: str) -> None:
    assert refusal(text).startswith(f"profile board.toml, {expected}")


def test_toml_that_does_not_parse_is_shown_with_its_line() -> None:
    assert "board.toml is not valid TOML: " in refusal('description = "x"\n[target\n')
    assert "line 2" in refusal('description = "x"\n[target\n')


def test_a_file_that_is_not_utf8_is_called_that() -> None:
    Path("board.toml").write_bytes(b'description = "caf\xe9"')
    with pytest.raises(ConfigError, match=r"profile board\.toml is not UTF-8 text \(byte 18\)"):
        load_profile("board.toml", environ={})


def test_what_cannot_be_read_is_called_that() -> None:
    Path("hardware_profiles/odd.toml").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"odd\.toml cannot be read: Is a directory"):
        load_profile("odd", environ={})


def test_a_name_inside_the_file_is_refused_as_the_schema_refuses_it() -> None:
    assert "line 1: unknown key `name`" in refusal('name = "another"')


def test_a_bad_variable_is_named_with_its_value() -> None:
    with pytest.raises(ConfigError, match=r"environment variable ROBOTICKS_TEST_TIMEOUT: .*`tests\.timeout`.*'soon'"):
        load_profile("runner", environ={"ROBOTICKS_TEST_TIMEOUT": "soon"})


def test_a_bad_flag_is_named_with_its_value() -> None:
    with pytest.raises(ConfigError, match=r"option for tests\.timeout: .*got -3"):
        load_profile("runner", environ={}, overrides={"tests.timeout": -3.0})


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_a_multiplier_that_is_no_factor_is_refused(factor: float) -> None:
    with pytest.raises(ConfigError, match=rf"timeout multiplier must be .*, not {factor:g}"):
        load_profile("runner", environ={}, timeout_multiplier=factor)


@pytest.mark.parametrize("key", ["timeouts.dsn", "tests.timeout"])
def test_a_limit_without_end_is_refused_because_no_clock_can_wait_for_it(key: str) -> None:
    table, name = key.split(".")
    assert f"`{key}`: expected" in refusal(f"[{table}]\n{name} = inf")


# --- the schema -------------------------------------------------------------------------------------------------------


def schema() -> Any:
    return json.loads(profile_schema())


def test_the_committed_schema_is_that_of_the_code() -> None:
    committed = (SHIPPED / SCHEMA_FILE).read_text(encoding="utf-8")
    assert committed == profile_schema(), f"write it anew: roboticks-tasks profiles schema >{SHIPPED / SCHEMA_FILE}"


def test_the_schema_is_a_valid_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("path", SHIPPED_FILES, ids=lambda path: str(path.stem))
def test_every_shipped_profile_loads_and_the_schema_accepts_it(path: Path) -> None:
    import tomllib

    assert load_profile(path, environ={}).description
    jsonschema.validate(tomllib.loads(path.read_text(encoding="utf-8")), schema())
    assert path.read_text(encoding="utf-8").startswith(f"#:schema ./{SCHEMA_FILE}\n")


@pytest.mark.parametrize(
    "document", [{"nonsense": 1}, {"target": {"kimd": "local"}}, {"timeouts": {"dsn": 0}}, {"name": "x"}]
)
def test_the_schema_refuses_what_the_loader_refuses(document: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema())
