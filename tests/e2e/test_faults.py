"""What breaks, and what a user is told: exit code, verdict, one sentence."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from roboticks_tasks.backend.local import ensure_local, release_local
from roboticks_tasks.profiles.values import LocalPlatform
from tests.conditions import until
from tests.e2e.bench import Bench
from tests.parts import require

ROOT = Path(__file__).resolve().parents[2]


def impatient(bench: Bench) -> str:
    """Write profile sim with less patience for DSN and session, and return its name."""
    text = (ROOT / "hardware_profiles" / "sim.toml").read_text()
    bench.profile("sim", re.sub(r"^(dsn|session) = 30$", r"\1 = 1.5", text, flags=re.MULTILINE))
    return "sim"


@pytest.mark.parametrize(
    ("fault", "code", "verdict", "reason"),
    [
        ("dies-at-start", 11, "bench-error", r"ended as soon as it was started; its last words: '.*dies-at-start'"),
        ("never-registers", 12, "bench-error", r"no DSN within 1\.5 s: .* is running, its state: registering.*online"),
        ("no-session", 13, "bench-error", r"no session for SIM-\w+: the platform gave no session within"),
    ],
)
def test_a_broken_device_manager_is_told_apart(bench: Bench, fault: str, code: int, verdict: str, reason: str) -> None:
    done = bench.run("hil-test", "--profile", impatient(bench), variables={"ROBOTICKS_SIM_FAULT": fault})
    result = bench.result()
    assert (done.code, result["exit_code"], result["verdict"]) == (code, code, verdict), result["reason"]
    assert re.search(reason, result["reason"]), result["reason"]
    assert "<error" in (bench.latest / "results.xml").read_text()


def test_a_device_manager_that_dies_under_the_tests_is_the_benchs_fault(bench: Bench) -> None:
    (bench.folder / "test_kills.py").write_text(
        "import os, signal\n"
        "def test_that_loses_its_device(roboticks_run):\n"
        "    os.kill(roboticks_run.dm.pid, signal.SIGKILL)\n"
        "    assert False\n"
    )
    done = bench.run("hil-test", "--test-command", "pytest test_kills.py")
    assert done.code == 15
    assert bench.result()["verdict"] == "bench-error"
    assert bench.result()["reason"].startswith("the device manager ended while the tests ran (0 passed, 1 failed)")
    assert "<failure" in (bench.latest / "results.xml").read_text()


def test_a_device_manager_that_dies_after_registering_fails_before_the_tests(bench: Bench) -> None:
    done = bench.run("hil-test", variables={"ROBOTICKS_SIM_FAULT": "dies-later"})
    assert done.code in {12, 13}
    assert bench.result()["verdict"] == "bench-error"
    assert "dies-later" in done.err


def test_a_device_that_registers_late_is_waited_for(bench: Bench) -> None:
    done = bench.run("hil-test", "--", "-k", "registered", variables={"ROBOTICKS_SIM_FAULT": "registers-late=0.5"})
    assert done.code == 0, done.err


def test_a_device_manager_that_ignores_sigterm_is_killed(bench: Bench) -> None:
    done = bench.run(
        *("hil-test", "--timeout-multiplier", "0.2", "--", "-k", "registered"),
        variables={"ROBOTICKS_SIM_FAULT": "ignores-sigterm"},
    )
    assert done.code == 0, done.err
    details = {part["name"]: part["detail"] for part in bench.result()["teardown"]["parts"]}
    assert details["device manager"].startswith("killed")


def test_a_local_platform_that_dies_ends_the_wait_at_once(bench: Bench) -> None:
    run = bench.popen("hil-test", variables={"ROBOTICKS_SIM_FAULT": "never-registers"})
    platform = bench.folder / ".roboticks" / "platform" / "platform.json"
    log = bench.folder / ".roboticks" / "device" / "log" / "device-manager.log"
    until(lambda: log.exists() and "never-registers" in log.read_text(), what="the device manager is up")
    os.kill(json.loads(platform.read_text())["pid"], signal.SIGKILL)
    run.communicate(timeout=15)  # half of what it would wait for the DSN
    assert run.returncode == 12
    assert bench.result()["verdict"] == "backend-error"
    assert "the local platform (pid " in bench.result()["reason"]


HELLO = "pytest --pyargs roboticks_tasks.sim.hello_world.hil"


@pytest.mark.parametrize(
    ("words", "code", "verdict", "reason"),
    [
        (
            ["--composition", "Nope"],
            14,
            "config-error",
            r"unknown composition 'Nope'; known: HeartbeatComposition, HelloWorldComposition",
        ),
        (
            ["--composition", "HelloWorldComposition", "--mode", "turbo"],
            14,
            "config-error",
            r"'HelloWorldComposition' has no mode 'turbo'; known: dev, prod",
        ),
        (["--test-command", 'pytest "'], 15, "config-error", r"does not parse: No closing quotation"),
        (["--test-command", "no-such-program"], 15, "config-error", r"command was not found: no-such-program"),
        (["--test-command", f"{HELLO} -k nothing_is_called_so"], 16, "config-error", r"no tests were collected"),
        (["--test-command", "pytest no/such/folder"], 15, "config-error", r"did not understand its command line"),
        (["--test-command", "sleep 60", "--test-timeout", "0.3"], 15, "failed", r"did not end within 0\.3 s"),
        (["--backend", "http://example.com"], 2, "config-error", r"project secret in clear; use https"),
    ],
)
def test_bad_input_that_a_run_finds_gets_one_sentence(
    bench: Bench, words: list[str], code: int, verdict: str, reason: str
) -> None:
    done = bench.run("hil-test", *words)
    result = bench.result()
    assert (done.code, result["verdict"]) == (code, verdict), result["reason"]
    assert re.search(reason, result["reason"]), result["reason"]
    assert "\n" not in result["reason"]


def test_a_wrong_project_secret_is_named_with_its_variable(bench: Bench) -> None:
    platform = ensure_local(LocalPlatform(directory=str(bench.folder / "platform")), run=bench.folder / "here")
    done = bench.run("hil-test", "--backend", platform.url, variables={"ROBOTICKS_PROJECT_SECRET": "wrong"})
    assert (done.code, bench.result()["verdict"]) == (12, "config-error")
    assert "wrong project secret" in bench.result()["reason"]
    assert bench.result()["reason"].endswith("; check ROBOTICKS_PROJECT_SECRET")
    release_local(bench.folder / "platform", run=bench.folder / "here")


def test_what_is_exported_for_the_real_platform_does_not_disturb_the_local_one(bench: Bench) -> None:
    exported = {"ROBOTICKS_PROJECT_SECRET": "of the real one", "ROBOTICKS_API_KEY": "likewise"}
    done = bench.run("hil-test", "--", "-k", "registered", variables=exported)
    assert done.code == 0, done.err


def test_a_missing_binary_is_named_with_what_would_provide_it(bench: Bench) -> None:
    done = bench.run("ensure-binary", "--profile", "runner", "--root", str(bench.folder / "root"))
    assert done.code == 10
    path = bench.folder / "root" / "install" / "bin" / "device-manager"
    assert done.sentence.startswith(f"Device manager binary not found: {path}; install the Roboticks device manager")


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        (b"#!/bin/sh\n", 0o644, "it is not executable; try: chmod +x"),
        (b"\x7fELF\x02\x01\x01" + bytes(11) + b"\xb7\x00", 0o755, "is built for aarch64, the target is"),
    ],
)
def test_a_binary_that_cannot_run_here_is_refused(bench: Bench, content: bytes, mode: int, reason: str) -> None:
    if "aarch64" in reason and "aarch64" in subprocess.check_output(["uname", "-m"], text=True):
        content = content[:18] + b"\x3e\x00"
        reason = "is built for x86_64, the target is"
    path = bench.folder / "root" / "install" / "bin" / "device-manager"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    path.chmod(mode)
    done = bench.run("ensure-binary", "--profile", "runner", "--root", str(bench.folder / "root"))
    assert done.code == 10
    assert reason in done.sentence


def test_a_missing_deployment_folder_is_a_warning_and_starts_nothing(bench: Bench) -> None:
    bench.profile(
        "bare",
        'backend = "local"\n[device_manager]\nkind = "simulated"\nroot = "device"\n'
        f'[tests]\ncommand = "{HELLO} -k registered"\n',
    )
    done = bench.run("hil-test", "--profile", "bare", "--artifacts", "out")
    assert done.code == 0, done.err
    assert "Deployment path does not exist" in done.err
    assert bench.result(bench.folder / "out")["compositions"] == []


def test_a_port_that_is_taken_is_named(bench: Bench) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        bench.profile(
            "busy",
            f'backend = "local"\n[local_platform]\nhttp_port = {port}\n'
            '[device_manager]\nkind = "simulated"\nroot = "device"\n',
        )
        done = bench.run("hil-test", "--profile", "busy", "--artifacts", "out")
    assert done.code == 2
    assert str(port) in bench.result(bench.folder / "out")["reason"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["hil-test", "--profile", "simm"], "unknown profile 'simm'.*did you mean sim?"),
        (["hil-test", "--profile", "broken"], r"hardware_profiles/broken\.toml is not valid TOML: .*line 2"),
        (
            ["hil-test", "--profile", "typo"],
            r"hardware_profiles/typo\.toml, line 2: unknown key `timeouts\.dns`; did you mean `dsn`\?",
        ),
        (["hil-test", "--artifacts", "/dev/null/x"], "output folder /dev/null/x cannot be written: Not a directory"),
        (["deploy"], "no run of profile 'sim' in test-output; start with `ensure-binary`"),
        (["deploy", "--artifacts", "nowhere"], "nowhere is not a run folder"),
    ],
)
def test_bad_input_before_a_run_is_one_sentence_with_code_2(bench: Bench, words: list[str], reason: str) -> None:
    bench.profile("broken", 'backend = "local"\n[timeouts\n')
    bench.profile("typo", "[timeouts]\ndns = 3\n")
    done = bench.run(*words)
    assert done.code == 2
    assert re.search(reason, done.sentence), done.sentence


def test_a_step_whose_predecessor_has_not_run_says_which(bench: Bench) -> None:
    assert bench.run("ensure-binary").code == 0
    done = bench.run("await-dsn")
    assert done.code == 2
    assert done.sentence == ("`launch-dm` has not run yet in this run; run `roboticks-tasks launch-dm` first")


def test_a_run_folder_of_another_profile_is_refused(bench: Bench) -> None:
    assert bench.run("ensure-binary", "--artifacts", "out").code == 0
    done = bench.run("launch-dm", "--profile", "runner", "--artifacts", "out")
    assert done.code == 2
    assert "out holds a run of profile 'sim', not 'runner'" in done.sentence


def test_pytest_that_is_not_installed_is_named(bench: Bench) -> None:
    """An interpreter without site-packages stands for one without pytest."""
    python = bench.folder / "python-without-packages"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    done = bench.run("hil-test", "--test-command", f"{python} -m pytest")
    assert done.code == 15
    assert "is pytest installed there?" in bench.result()["reason"]


def test_a_full_disk_before_the_run_is_one_sentence(bench: Bench) -> None:
    unshare = require("unshare")
    (bench.folder / "full").mkdir()
    script = (
        "mount -t tmpfs -o size=16k tmpfs full && mkdir full/out && { head -c 99999 /dev/zero >full/fill; true; } "
        f"2>/dev/null; exec {sys.executable} -m roboticks_tasks ensure-binary --artifacts full/out"
    )
    done = subprocess.run(
        [unshare, "-rm", "sh", "-c", script], cwd=bench.folder, env=bench.environment, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert "the output folder full/out cannot be written: No space left on device; free space" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_disk_that_fills_up_during_the_run_still_tears_down(bench: Bench) -> None:
    """No file may grow beyond a limit: pytest's log does, the run's verdict is told all the same."""
    (bench.folder / "test_floods.py").write_text("def test_floods():\n    print('x' * 3_000_000)\n    assert False\n")
    done = subprocess.run(
        [sys.executable, "-m", "roboticks_tasks", "hil-test", "--test-command", "pytest test_floods.py"],
        cwd=bench.folder,
        env=bench.environment,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000)),
    )
    assert "Traceback" not in done.stderr
    assert "pytest.log is cut off: File too large" in done.stderr
    assert done.returncode in {1, 15}, done.stderr
    assert bench.result()["exit_code"] == done.returncode
    bench.assert_nothing_is_left()


def test_teardown_where_nothing_ran_is_no_error(bench: Bench) -> None:
    assert bench.run("teardown").code == 0


def test_profiles_lists_what_can_be_named(bench: Bench) -> None:
    bench.profile("mine", 'description = "My bench"\n')
    out = bench.run("profiles").out
    assert re.search(r"^mine +My bench ", out, re.MULTILINE)
    assert re.search(r"^sim +Simulated device manager", out, re.MULTILINE)
    assert Path("hardware_profiles") / "profile.schema.json"
