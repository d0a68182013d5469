"""What doctor sees of this machine."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from roboticks_tasks.bench import VARIABLE
from roboticks_tasks.doctor import machine
from roboticks_tasks.doctor.checks import run_checks
from roboticks_tasks.doctor.findings import Finding, Seen
from roboticks_tasks.doctor.hardware import power_commands, power_state
from roboticks_tasks.errors import BoardError
from roboticks_tasks.profiles import Profile
from roboticks_tasks.profiles.values import Board, Console, DeploymentSpec, DeviceManagerSpec, Power, Source, Target


class Usage(NamedTuple):
    """What shutil.disk_usage returns."""

    total: int
    used: int
    free: int


def look(profile: Profile, folder: Path) -> dict[str, Finding]:
    return {each.name: each for each in run_checks(list(machine.machine_checks(profile, folder)))}


def is_bad(seen: Seen, words: str, *, outcome: str = "failed") -> bool:
    return seen.outcome == outcome and words in seen.detail + seen.remedy and bool(seen.remedy)


def test_a_bare_profile_has_few_needs(tmp_path: Path) -> None:
    found = look(Profile(), tmp_path)
    assert {name: each.outcome for name, each in found.items()} == dict.fromkeys(
        ("software", "packages", "output folder"), "ok"
    )
    assert sys.executable in found["software"].detail


def test_every_file_that_a_profile_names_is_looked_at(tmp_path: Path) -> None:
    profile = Profile(
        target=Target(kind="ssh", identity_file=str(tmp_path / "key")),
        boards=(Board(id="a", host="a"),),
        device_manager=DeviceManagerSpec(source=Source(path=str(tmp_path / "dm")), flash=("no-such-program",)),
        deployment=DeploymentSpec(path=str(tmp_path / "deployment")),
    )
    found = look(profile, tmp_path)
    outcomes = {name: found[name].outcome for name in ("identity file", "device manager's source", "flash command")}
    assert outcomes == dict.fromkeys(outcomes, "failed")
    assert found["deployment's source"].outcome == "warning"
    assert all(each.remedy for each in found.values() if each.outcome != "ok")


def test_a_package_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    profile = Profile(backend="local", boards=(Board(id="a", console=Console(port="/dev/ttyS0")),))
    assert machine.packages(profile).outcome == "ok"
    monkeypatch.setattr("roboticks_tasks.doctor.machine.NEEDED", ("paho", "no_such_package"))
    assert is_bad(machine.packages(profile), "no_such_package")
    assert "paho" not in machine.packages(profile).detail
    assert "roboticks-tasks[sim]" in machine.packages(profile).remedy


def test_a_machine_without_ssh_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert is_bad(machine.ssh_client(), "openssh-client")


def test_a_private_key_must_be_private(tmp_path: Path) -> None:
    key = tmp_path / "key"
    assert is_bad(machine.identity_file(key), "No such file")
    key.write_text("key")
    key.chmod(0o644)
    assert is_bad(machine.identity_file(key), "chmod 600")
    key.chmod(0o600)
    assert machine.identity_file(key).outcome == "ok"
    assert is_bad(machine.identity_file(tmp_path), "directory")


def test_the_device_managers_file_must_have_its_checksum(tmp_path: Path) -> None:
    file = tmp_path / "dm"
    file.write_bytes(b"device manager")

    def look_at(**source: Any) -> Seen:
        return machine.source_file(Profile(device_manager=DeviceManagerSpec(source=Source(**source))))

    digest = hashlib.sha256(b"device manager").hexdigest()
    assert look_at(path=str(file)).outcome == "ok"
    assert look_at(path=str(file), sha256=digest.upper()).outcome == "ok"
    assert is_bad(look_at(path=str(file), sha256="0" * 64), digest)
    assert is_bad(look_at(path=str(tmp_path / "nothing")), "No such file")
    assert look_at(url="https://example.org/dm").outcome == "ok"


def test_a_deployment_must_hold_something(tmp_path: Path) -> None:
    folder = tmp_path / "deployment"
    profile = Profile(deployment=DeploymentSpec(path=str(folder)))
    assert is_bad(machine.deployment_source(profile), "does not exist", outcome="warning")
    folder.mkdir()
    assert is_bad(machine.deployment_source(profile), "empty", outcome="warning")
    (folder / "composition").touch()
    assert machine.deployment_source(profile).outcome == "ok"


def test_a_deployment_in_a_package_that_is_not_installed_is_a_failure(tmp_path: Path) -> None:
    found = look(Profile(deployment=DeploymentSpec(path="package:no_such_package/deployment")), tmp_path)
    assert found["deployment's source"].outcome == "failed"
    assert found["deployment's source"].remedy


def test_a_flash_program_must_be_installed() -> None:
    assert is_bad(machine.flash_command("no-such-program"), "no-such-program")
    assert machine.flash_command("sh").outcome == "ok"


@pytest.mark.parametrize(("free", "outcome"), [(10**12, "ok"), (4 * 10**8, "warning"), (4 * 10**7, "failed")])
def test_the_output_folder_needs_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, outcome: str
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**13, 0, free))
    seen = machine.output_folder(tmp_path / "not" / "there")
    assert (seen.outcome, bool(seen.remedy)) == (outcome, outcome != "ok")
    assert list(tmp_path.iterdir()) == []


def test_the_output_folder_must_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert is_bad(machine.output_folder(tmp_path / "file"), "--artifacts")


def test_the_bench_needs_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = Profile(boards=(Board(id="a"),))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "bench"))
    assert look(profile, tmp_path)["bench folder"].outcome == "ok"
    (tmp_path / "file").touch()
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file"))
    found = look(profile, tmp_path)["bench folder"]
    assert (found.outcome, found.area, bool(found.remedy)) == ("failed", "machine", True)


def test_the_programs_that_switch_power_must_be_found(tmp_path: Path) -> None:
    power = Power(on=("no-such-uhubctl", "on"), off=("sh", "-c", "off"), state=("no-such-uhubctl",))
    assert is_bad(power_commands(power), "no-such-uhubctl (`power.on`)")
    assert power_commands(Power(on=("sh",))).outcome == "ok"


@pytest.mark.parametrize(
    ("power", "outcome", "detail"),
    [
        (Power(state=("echo", "on")), "ok", "on"),
        (Power(state=("echo", "off")), "failed", "off"),
        (Power(state=("echo", "off"), on=("touch", "switched")), "warning", "off"),
        (Power(on=("touch", "switched")), "ok", "cannot be asked"),
    ],
)
def test_the_power_is_read_and_never_switched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, power: Power, outcome: str, detail: str
) -> None:
    monkeypatch.chdir(tmp_path)
    seen = power_state(Board(id="a"), power)
    assert seen.outcome == outcome
    assert detail in seen.detail
    assert bool(seen.remedy) == (outcome != "ok")
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - the names


@pytest.mark.parametrize("command", [("false",), ("echo", "maybe"), ("no-such-program",)])
def test_a_state_command_that_does_not_say_is_an_error(command: tuple[str, ...]) -> None:
    with pytest.raises(BoardError) as said:
        power_state(Board(id="a"), Power(state=command))
    assert said.value.remedy


def test_a_state_command_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roboticks_tasks.doctor.hardware.DEADLINE", 0.05)
    with pytest.raises(BoardError, match=r"did not end within 0\.05 s"):
        power_state(Board(id="a"), Power(state=("sleep", "60")))
