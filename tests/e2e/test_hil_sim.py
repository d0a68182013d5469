"""The main job on profile `sim`, as a user runs it."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import requests

from roboticks_tasks.lifecycle.deployment import source_folder
from tests.conditions import until
from tests.e2e.bench import Bench, Done

ROOT = Path(__file__).resolve().parents[2]

STEPS = [
    "ensure_board",
    "ensure_binary",
    "ensure_backend",
    "launch_dm",
    "await_dsn",
    "await_session",
    "deploy",
    "pytest_session",
    "teardown",
]


@pytest.fixture(scope="module")
def whole_run(shared_bench: Bench) -> Done:
    """One whole run with everything at its default."""
    return shared_bench.run("hil-test")


def test_the_main_job_passes(whole_run: Done) -> None:
    assert whole_run.code == 0, whole_run.err
    assert "passed: 6 tests passed" in whole_run.out


def test_the_run_folder_has_everything(whole_run: Done, shared_bench: Bench) -> None:
    names = {path.name for path in shared_bench.latest.iterdir()}
    assert {
        "device-manager.log",
        "events.jsonl",
        "pytest.log",
        "result.json",
        "results.xml",
        "pytest.xml",
        "lifecycle.xml",
        "run.json",
        "test-run.log",
    } <= names


def test_the_result_names_device_session_compositions_and_each_step(whole_run: Done, shared_bench: Bench) -> None:
    result = shared_bench.result()
    assert (result["verdict"], result["exit_code"]) == ("passed", 0)
    assert result["dsn"].startswith("SIM-")
    assert result["session_id"]
    assert {each["name"] for each in result["compositions"]} == {"HelloWorldComposition", "HeartbeatComposition"}
    assert [step["name"] for step in result["steps"]] == STEPS
    assert all(part["ok"] for part in result["teardown"]["parts"])


def test_the_junit_file_carries_the_verdict(whole_run: Done, shared_bench: Bench) -> None:
    steps, tests = ElementTree.parse(shared_bench.latest / "results.xml").getroot().findall("testsuite")
    properties = {each.get("name"): each.get("value") for each in steps.iter("property")}
    assert properties["roboticks_tasks.verdict"] == "passed"
    assert [case.get("name") for case in steps.findall("testcase")] == STEPS
    assert len(tests.findall("testcase")) == 6
    assert (shared_bench.latest / "pytest.xml").read_text().count("<testcase") == 6


def test_the_events_tell_the_whole_story(whole_run: Done, shared_bench: Bench) -> None:
    events = [json.loads(line) for line in (shared_bench.latest / "events.jsonl").read_text().splitlines()]
    assert events[0]["event"] == "run-started"
    assert [each["name"] for each in events if each["event"] == "step-finished"] == STEPS
    assert events[-1]["event"] == "run-finished"


def test_the_device_managers_log_is_collected(whole_run: Done, shared_bench: Bench) -> None:
    assert "Registered with DSN: SIM-" in (shared_bench.latest / "device-manager.log").read_text()


def test_the_second_run_is_the_same_device(bench: Bench) -> None:
    assert bench.run("hil-test").code == 0
    first = bench.result()
    assert bench.run("hil-test").code == 0
    second = bench.result()
    assert first["dsn"] == second["dsn"]
    assert first["session_id"] != second["session_id"]


def test_each_step_alone_in_its_own_process_then_teardown_twice(bench: Bench) -> None:
    only = {"ROBOTICKS_COMPOSITION": "HelloWorldComposition", "ROBOTICKS_COMPOSITION_MODE": "dev"}
    for step in ("ensure-binary", "launch-dm", "await-dsn", "await-session", "deploy"):
        done = bench.run(step, variables=only)
        assert done.code == 0, (step, done.err)
    dsn = bench.state()["dsn"]["value"]

    def compositions() -> list[dict[str, Any]]:
        device = ask(bench, f"/api/v1/organizations/local/projects/local/devices/{dsn}")
        assert device["test_device"] is True
        listed: list[dict[str, Any]] = device["compositions"]
        return listed

    until(compositions, what="the platform knows the composition")
    assert [(each["name"], each["mode"], each["status"]) for each in compositions()] == [
        ("HelloWorldComposition", "dev", "running")
    ]
    units = ask(bench, "/api/v1/organizations/local/limits")["device_units"]
    assert (units["used"], units["test_devices"]) == (0, 1)

    tests = bench.run("pytest-session", "--", "-k", "mode", variables=only)
    assert tests.code == 0, tests.out
    assert "1 passed" in tests.out
    status = json.loads(bench.run("status", "--json").out)
    assert (status["device_manager_running"], status["local_platform_running"]) == (True, True)
    for _ in range(2):
        assert bench.run("teardown").code == 0
        bench.assert_nothing_is_left()
    assert bench.result()["verdict"] == "passed"


def test_a_failed_step_is_remembered_until_teardown_gives_the_verdict(bench: Bench) -> None:
    assert bench.run("ensure-binary").code == 0
    assert bench.run("launch-dm", variables={"ROBOTICKS_SIM_FAULT": "dies-at-start"}).code == 11
    done = bench.run("teardown")
    assert done.code == 0
    assert re.search(
        r"^bench-error: The bench .* the device manager ended as soon as it was started", done.out, re.MULTILINE
    )
    assert "simulated fault: dies-at-start" in done.err
    assert (bench.result()["exit_code"], bench.result()["verdict"]) == (11, "bench-error")


def test_a_session_can_be_asked_for_through_the_platform(bench: Bench) -> None:
    text = (ROOT / "hardware_profiles" / "sim.toml").read_text()
    assert 'request = "control"' in text
    bench.profile("sim", text.replace('request = "control"', 'request = "platform"'))
    done = bench.run("hil-test", "--", "-k", "session")
    assert done.code == 0, done.err


def test_a_second_deploy_starts_what_has_changed_afresh(bench: Bench) -> None:
    source = source_folder("package:roboticks_tasks.sim/hello_world/deployment")
    shutil.copytree(source, bench.folder / "mine", ignore=shutil.ignore_patterns("__pycache__"))
    text = (ROOT / "hardware_profiles" / "sim.toml").read_text()
    bench.profile("sim", re.sub(r"^path = .*$", 'path = "mine"', text, flags=re.MULTILINE))
    for step in ("ensure-binary", "launch-dm", "await-dsn", "await-session"):
        assert bench.run(step).code == 0, step
    only = ("--composition", "HelloWorldComposition")
    assert bench.run("deploy", *only).out == "HelloWorldComposition prod running\n"
    assert bench.state()["deployment"]["files_sent"] > 0
    assert bench.run("deploy", *only, "--mode", "dev").out == "HelloWorldComposition dev running\n"
    assert bench.state()["deployment"]["files_sent"] == 0
    composition = bench.folder / "mine" / "HelloWorldComposition" / "composition.yaml"
    composition.write_text(composition.read_text().replace("Hello, developer!", "Good morning!"))
    assert bench.run("deploy", *only, "--mode", "dev").code == 0
    assert bench.state()["deployment"]["files_sent"] == 1
    (bench.folder / "test_text.py").write_text(
        "def test_text(bus):\n    assert bus.collect('/hello/greeting', 1)[0]['text'] == 'Good morning!'\n"
    )
    tests = bench.run("pytest-session", "--test-command", "pytest test_text.py")
    assert tests.code == 0, tests.out
    assert bench.run("teardown").code == 0


def ask(bench: Bench, path: str) -> dict[str, Any]:
    backend = bench.state()["backend"]
    key = Path(backend["api_key_file"]).read_text().strip()
    response = requests.get(backend["url"] + path, headers={"Authorization": f"Bearer {key}"}, timeout=5)
    answer: dict[str, Any] = response.json()
    return answer


def test_a_red_test_is_the_changes_fault(bench: Bench) -> None:
    (bench.folder / "test_red.py").write_text("def test_red(device):\n    assert device.dsn == 'another'\n")
    done = bench.run("hil-test", "--test-command", "pytest test_red.py")
    assert done.code == 1
    assert bench.result()["verdict"] == "failed"
    assert bench.result()["reason"] == "1 of 1 tests failed"
    assert "device manager log" in done.err
    assert "Registered with DSN" in done.err


def test_words_behind_the_dashes_go_to_pytest(bench: Bench) -> None:
    done = bench.run("hil-test", "--", "-k", "registered")
    assert done.code == 0, done.err
    assert bench.result()["tests"]["passed"] == 1


def test_the_users_own_pytest_options_are_kept(bench: Bench) -> None:
    (bench.folder / "test_one.py").write_text("def test_one():\n    pass\n")
    options = {"PYTEST_ADDOPTS": "-k nothing_is_called_so"}
    done = bench.run("hil-test", "--test-command", "true && pytest test_one.py", variables=options)
    assert done.code == 16
    assert bench.result()["reason"].startswith("no tests were collected")


def test_a_second_run_on_the_same_board_is_refused_with_the_holders_name(bench: Bench) -> None:
    holder = start_a_run_that_waits_in_its_tests(bench)
    refused = bench.run("hil-test")
    assert refused.code == 20
    assert "in use by run" in refused.sentence
    assert f"pid {holder.pid}" in refused.sentence
    teardown = bench.run("teardown")
    assert teardown.code == 20, "a refused teardown must not touch the run that has the board"
    finish(bench, holder)
    assert holder.returncode == 0


def test_two_runs_share_the_local_platform_and_the_last_one_stops_it(bench: Bench) -> None:
    holder = start_a_run_that_waits_in_its_tests(bench)
    other = bench.run("hil-test", "--root", "other-device", "--artifacts", "other", "--", "-k", "registered")
    assert other.code == 0, other.err
    parts = {part["name"]: part["detail"] for part in bench.result(bench.folder / "other")["teardown"]["parts"]}
    assert parts["local platform"] == "left running: it is still in use"
    finish(bench, holder)
    assert holder.returncode == 0
    bench.assert_nothing_is_left()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_ends_the_run_in_order(bench: Bench, number: signal.Signals, code: int) -> None:
    run = start_a_run_that_waits_in_its_tests(bench)
    run.send_signal(number)
    out, err = run.communicate(timeout=20)
    assert run.returncode == code, err
    assert "cancelled" in out
    assert bench.result()["verdict"] == "cancelled"
    assert ElementTree.parse(bench.latest / "results.xml").getroot() is not None
    bench.assert_nothing_is_left()
    assert bench.run("teardown").code == 0
    assert (bench.result()["verdict"], bench.result()["exit_code"]) == ("cancelled", code)


def test_a_refused_run_leaves_no_old_green_behind(bench: Bench) -> None:
    assert bench.run("hil-test", "--artifacts", "out", "--", "-k", "registered").code == 0
    holder = start_a_run_that_waits_in_its_tests(bench)
    assert bench.run("hil-test", "--artifacts", "out").code == 20
    result = bench.result(bench.folder / "out")
    assert (result["verdict"], result["exit_code"]) == ("bench-error", 20)
    finish(bench, holder)


def test_a_step_may_run_in_another_working_directory(bench: Bench) -> None:
    run = str(bench.folder / "out")
    for step in ("ensure-binary", "launch-dm", "await-dsn", "await-session"):
        assert bench.run(step, "--artifacts", run).code == 0, step
    elsewhere = bench.folder / "elsewhere"
    elsewhere.mkdir()
    words = ("--composition", "HelloWorldComposition", "--artifacts", run)
    assert bench.run("deploy", *words, folder=elsewhere).out == "HelloWorldComposition prod running\n"
    done = bench.run("teardown", "--artifacts", run, folder=elsewhere)
    assert done.code == 0, done.err
    assert "Registered with DSN" in (bench.folder / "out" / "device-manager.log").read_text()
    assert list(elsewhere.iterdir()) == []


def test_tearing_down_an_old_run_leaves_the_new_one_alone(bench: Bench) -> None:
    for run in ("old", "new"):
        for step in ("ensure-binary", "launch-dm", "await-dsn"):
            assert bench.run(step, "--artifacts", run).code == 0, (run, step)
    pid_file = bench.folder / ".roboticks" / "device" / "run" / "device-manager.pid"
    named = pid_file.read_text()
    assert bench.run("teardown", "--artifacts", "old").code == 0
    assert pid_file.read_text() == named
    status = json.loads(bench.run("status", "--json", "--artifacts", "new").out)
    assert status["device_manager_running"]
    assert bench.run("await-session", "--artifacts", "new").code == 0
    assert bench.run("teardown", "--artifacts", "new").code == 0


@pytest.mark.parametrize(
    ("command", "code", "reason"),
    [
        ("pytest test_red.py | cat", 1, "1 of 2 tests failed"),
        ("pytest test_red.py -k nothing_is_called_so | cat", 16, "no tests were collected"),
        ("sh -c 'exit 2'", 1, "1 of 1 tests failed"),
        ("pytest test_red.py -k green; exit 3", 1, "1 test passed, but the test command ended with 3"),
    ],
)
def test_no_way_to_call_the_tests_makes_red_green_or_blames_the_wrong_one(
    bench: Bench, command: str, code: int, reason: str
) -> None:
    (bench.folder / "test_red.py").write_text("def test_red():\n    assert False\ndef test_green():\n    pass\n")
    done = bench.run("hil-test", "--test-command", command)
    assert done.code == code
    assert bench.result()["reason"].startswith(reason)


NOX = """
import os, subprocess, sys
environment = {**os.environ, "ROBOTICKS_END_WITH": str(os.getpid())}
subprocess.run([sys.executable, "-m", "roboticks_tasks", *sys.argv[1:]], env=environment)
"""


def test_a_run_whose_nox_is_killed_tears_down(bench: Bench) -> None:
    write_a_test_that_waits(bench)
    command = [sys.executable, "-c", NOX, "hil-test", "--test-command", "pytest test_waits.py"]
    nox = subprocess.Popen(command, cwd=bench.folder, env=bench.environment, stderr=subprocess.DEVNULL)
    until((bench.folder / "waiting").exists, what="the test waits")
    nox.kill()
    nox.wait()
    until((bench.latest / "result.json").exists, what="the run has its result")
    until(lambda: not bench.running(), what="nothing is left")
    assert (bench.result()["verdict"], bench.result()["exit_code"]) == ("cancelled", 143)


def write_a_test_that_waits(bench: Bench) -> None:
    (bench.folder / "test_waits.py").write_text(
        "import pathlib, time\n"
        "def test_waits(device):\n"
        "    pathlib.Path('waiting').touch()\n"
        "    while not pathlib.Path('go').exists():\n"
        "        time.sleep(0.01)\n"
    )


def start_a_run_that_waits_in_its_tests(bench: Bench) -> subprocess.Popen[str]:
    """Start a run whose only test waits for the file `go`; return once it is in that test."""
    write_a_test_that_waits(bench)
    run = bench.popen("hil-test", "--test-command", "pytest test_waits.py")
    until(lambda: (bench.folder / "waiting").exists() or run.poll() is not None, what="the test waits")
    assert run.poll() is None, run.communicate()
    return run


def finish(bench: Bench, run: subprocess.Popen[str]) -> None:
    (bench.folder / "go").touch()
    run.communicate(timeout=30)
