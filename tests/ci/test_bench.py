"""The files of ci/bench, read by the programs that they are for where those are there."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from roboticks_tasks.bench import SHARED
from tests.ci.templates import CI
from tests.parts import missing, require

BENCH = CI / "bench"

UNIT = (BENCH / "roboticks-bench.service").read_text(encoding="utf-8")

RULES = BENCH / "70-roboticks-bench.rules"


def setting(name: str) -> list[str]:
    """The values of a setting of the unit."""
    return re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)


def analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([require("systemd-analyze"), *words], capture_output=True, text=True)


def test_systemd_understands_every_line_of_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "roboticks-bench.service"
    unit.write_text(re.sub(r"^(Exec\w+=-?)\S+", r"\1/bin/true", UNIT, flags=re.MULTILINE))
    done = analyze("verify", "--man=no", unit)
    assert (done.returncode, done.stderr) == (0, "")
    broken = tmp_path / "roboticks-broken.service"
    broken.write_text(unit.read_text().replace("ProtectSystem=strict", "ProtectSystem=much"))
    assert "much" in analyze("verify", "--man=no", broken).stderr


def test_the_unit_is_closed_to_all_but_serial_ports_usb_and_the_network() -> None:
    done = analyze("security", "--offline=true", "--json=short", "--threshold=30", BENCH / "roboticks-bench.service")
    if "unrecognized option" in done.stderr:
        missing("a systemd that can look at a file (250 or newer)")
    assert done.returncode == 0, done.stdout
    found = {row["json_field"]: row["set"] for row in json.loads(done.stdout)}
    for name in ("PrivateDevices", "DeviceAllow", "ProtectClock", "ProtectKernelTunables"):
        assert not found[name], f"{name} would take the serial ports or uhubctl away"
    assert "AF_NETLINK" in setting("RestrictAddressFamilies")[0]  # libusb hears of devices there


def test_a_stop_of_the_runner_leaves_guards_and_sockets_alone() -> None:
    assert setting("KillMode") == ["process"]
    assert setting("RuntimeDirectoryPreserve") == ["yes"]
    assert setting("ExecStopPost")[0].endswith("roboticks-tasks status --reap")


def test_leases_are_where_everybody_at_the_bench_looks(tmp_path: Path) -> None:
    assert f"ROBOTICKS_BENCH={SHARED[0]}" in setting("Environment")
    assert setting("ReadWritePaths") == [SHARED[0]]
    if os.getuid() != 0:
        pytest.skip("only root may give files to root")
    words = [require("systemd-tmpfiles"), "--create", f"--root={tmp_path}", str(BENCH / "roboticks-bench.conf")]
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    (tmp_path / "etc/group").write_text("root:x:0:\n")
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = (tmp_path / SHARED[0].lstrip("/")).stat()
    assert stat.S_IMODE(made.st_mode) == 0o1777


def test_each_rule_is_a_list_of_matches_and_assignments() -> None:
    """The form of each line, and that what is jumped to is there; and what udev says, from systemd 254 on."""
    program = shutil.which("udevadm")
    if program and "verify" in subprocess.run([program, "--help"], capture_output=True, text=True).stdout:
        done = subprocess.run([program, "verify", RULES], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    keys = r"ACTION|SUBSYSTEMS?|KERNELS|DRIVER|GOTO|LABEL|GROUP|MODE|SYMLINK|RUN|(?:ATTRS?|ENV)\{\w+\}"
    rules = [line for line in RULES.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    for rule in rules:
        pair = rf'(?:{keys})(?:==|!=|\+=|=)"[^"]*"'
        assert re.fullmatch(rf"{pair}(?:, {pair})*", rule), rule
    text = "\n".join(rules)
    assert re.findall(r'GOTO="(\w+)"', text) == re.findall(r'LABEL="(\w+)"', text)
    assert set(re.findall(r'GROUP="(\w+)"', text)) == set(setting("SupplementaryGroups")[0].split())
    assert "0666" not in text
    assert "0777" not in text


def test_the_guide_names_every_file_beside_it() -> None:
    guide = (BENCH / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in BENCH.iterdir() if path.name not in guide and path.name != "README.md"] == []
