"""Compositions under the simulated device manager: ready, in a mode, in order on the bus, and failing well."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conditions import until
from tests.contract.device_process import Device, Ear, device_of
from tests.contract.platform_process import Platform, running


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running(tmp_path_factory.mktemp("platform") / "platform") as process:
        assert "error" not in process.ready, process.ready
        yield process


@pytest.fixture
def device(platform: Platform, tmp_path: Path) -> Iterator[Device]:
    with device_of(platform, tmp_path / "root") as found:
        found.deploy()
        found.start_with_bus()
        yield found


def status_at(platform: Platform, device: Device, name: str) -> str | None:
    """Return what the platform knows about a composition of the device."""
    entries = platform.get(f"devices/{device.state()['dsn']}")["compositions"]
    return next((entry["status"] for entry in entries if entry["name"] == name), None)


def hear(device: Device, topic: str, count: int) -> list[dict[str, Any]]:
    """Return the next messages of a topic."""
    ear = Ear(device.state()["bus"], topic)
    try:
        return ear.hear(count)
    finally:
        ear.close()


def test_what_is_deployed_is_listed_with_its_modes(device: Device) -> None:
    listed = device.ask("list-compositions")["compositions"]

    assert [(entry["name"], entry["modes"]) for entry in listed] == [
        ("HeartbeatComposition", ["dev", "prod"]),
        ("HelloWorldComposition", ["dev", "prod"]),
    ]


def test_start_returns_once_all_modules_are_ready(platform: Platform, device: Device) -> None:
    answer = device.ask("start-composition", "HelloWorldComposition", "--mode", "dev")

    assert answer == {"name": "HelloWorldComposition", "mode": "dev", "status": "running", "error": None}
    assert device.state()["compositions"] == [answer]
    assert len(device.module_processes()) == 2
    assert "INFO [compositions] Composition HelloWorldComposition running (mode dev)\n" in device.log()
    until(lambda: status_at(platform, device, "HelloWorldComposition") == "running", "the heartbeat tells it")
    assert device.ask("start-composition", "HelloWorldComposition", "--mode", "dev") == answer
    assert len(device.module_processes()) == 2


def test_only_the_composition_that_was_asked_for_is_started(device: Device) -> None:
    device.ask("start-composition", "HeartbeatComposition")

    assert [entry["name"] for entry in device.state()["compositions"]] == ["HeartbeatComposition"]
    assert len(device.module_processes()) == 1


@pytest.mark.parametrize(("mode", "text"), [("dev", "Hello, developer!"), ("prod", "Hello, world!")])
def test_the_mode_is_visible_in_what_the_modules_say(device: Device, mode: str, text: str) -> None:
    device.ask("start-composition", "HelloWorldComposition", "--mode", mode)

    [greeting] = hear(device, "/hello/greeting", 1)

    assert (greeting["mode"], greeting["text"]) == (mode, text)
    assert (greeting["composition"], greeting["module"]) == ("HelloWorldComposition", "greeter")
    assert isinstance(greeting["timestamp_us"], int)


def test_the_default_mode_is_prod(device: Device) -> None:
    assert device.ask("start-composition", "HelloWorldComposition")["mode"] == "prod"


def test_a_burst_comes_whole_and_in_order(device: Device) -> None:
    device.write_composition("Burst", BURST)
    ear = Ear(device.state()["bus"], "/burst")
    device.ask("start-composition", "Burst")
    [first] = ear.hear(1)

    (device.root / "burst-now").touch()
    numbers = [message["sequence"] for message in ear.hear(3000)]

    ear.close()
    assert numbers == list(range(first["sequence"] + 1, first["sequence"] + 3001))


BURST = """
import itertools, json, os, pathlib, time, zmq
bus = zmq.Context().socket(zmq.XPUB)
bus.setsockopt(zmq.SNDHWM, 0)
bus.connect(os.environ["ROBOTICKS_BUS_PUBLISH"])
bus.recv()
names = {"module": os.environ["ROBOTICKS_MODULE"], "composition": os.environ["ROBOTICKS_COMPOSITION"]}
bus.send_multipart([b"/roboticks/module/ready", json.dumps(names).encode()])
now = pathlib.Path(os.environ["ROBOTICKS_ROOT"], "burst-now")
numbers = itertools.count()
def send():
    bus.send_multipart([b"/burst", json.dumps({**names, "sequence": next(numbers)}).encode()])
while not now.exists():
    send()
    time.sleep(0.005)
for _ in range(3000):
    send()
time.sleep(600)
"""


def test_answers_follow_the_greetings(device: Device) -> None:
    device.ask("start-composition", "HelloWorldComposition", "--mode", "dev")

    answers = hear(device, "/hello/answer", 5)

    first = answers[0]["answer_to"]
    assert [answer["answer_to"] for answer in answers] == list(range(first, first + 5))


def test_stop_ends_the_modules_and_it_can_be_started_again(platform: Platform, device: Device) -> None:
    device.ask("start-composition", "HelloWorldComposition", "--mode", "dev")

    assert device.ask("stop-composition", "HelloWorldComposition")["status"] == "stopped"

    assert device.module_processes() == []
    until(lambda: status_at(platform, device, "HelloWorldComposition") == "stopped", "the heartbeat tells it")
    assert device.ask("start-composition", "HelloWorldComposition", "--mode", "prod")["mode"] == "prod"


def test_logs_of_modules_arrive_with_their_names(platform: Platform, device: Device) -> None:
    session = device.ask("start-session")
    device.ask("start-composition", "HelloWorldComposition", "--mode", "dev")

    def modules() -> set[str]:
        items = platform.get(f"sessions/{session['id']}/logs", search="reet")["items"]
        return {entry["module"] for entry in items}

    until(lambda: modules() >= {"greeter", "listener"}, "both modules at the platform")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["Nonsense"], "unknown composition 'Nonsense' (known: HeartbeatComposition, HelloWorldComposition)"),
        (["../HelloWorldComposition"], "unknown composition"),
        (["HelloWorldComposition", "--mode", "fast"], "has no mode 'fast' (known: dev, prod)"),
    ],
)
def test_unknown_names_and_modes_list_the_known_ones(device: Device, arguments: list[str], words: str) -> None:
    completed = device.ctl("start-composition", *arguments)

    assert completed.returncode == 1
    assert words in completed.stderr
    assert device.module_processes() == []


def test_another_mode_needs_a_stop_first(device: Device) -> None:
    device.ask("start-composition", "HelloWorldComposition", "--mode", "dev")

    completed = device.ctl("start-composition", "HelloWorldComposition", "--mode", "prod")

    assert completed.returncode == 1
    assert "runs in mode dev" in completed.stderr


def test_a_module_that_ends_before_it_is_ready_fails_the_start_with_its_last_words(device: Device) -> None:
    device.write_composition("Broken", "import sys; print('starting'); sys.exit('no camera found')")

    completed = device.ctl("start-composition", "Broken")

    assert completed.returncode == 1
    assert "only ended with exit code 1: starting | no camera found" in completed.stderr
    assert device.state()["compositions"][0]["status"] == "failed"


def test_a_module_that_never_gets_ready_is_named_and_ended(device: Device) -> None:
    device.write_composition("Silent", "import time; time.sleep(600)", modules=("one", "two"))

    completed = device.ctl("start-composition", "Silent", "--timeout", "0.3")

    assert completed.returncode == 1
    assert "not ready within 0.3 s: one, two" in completed.stderr
    until(lambda: not device.module_processes(), "its modules are ended")


def test_who_loses_patience_with_what_another_has_started_leaves_it_alone(device: Device) -> None:
    device.write_composition("Slow", HELD_UP + READY)
    with subprocess.Popen([device.program, "ctl", "start-composition", "Slow"], env=device.environ) as patient:
        until(lambda: device.state()["compositions"], "it is starting")

        impatient = device.ctl("start-composition", "Slow", "--timeout", "0.05")
        (device.root / "go").touch()

        assert impatient.returncode == 1
        assert "not ready within 0.05 s: only; somebody else has started it" in impatient.stderr
        assert patient.wait(10) == 0
    assert device.state()["compositions"][0]["status"] == "running"


def test_a_start_while_it_stops_waits_for_the_end_of_the_old_modules(device: Device) -> None:
    device.write_composition("Slow", RELUCTANT + READY)
    device.ask("start-composition", "Slow")
    [old] = device.module_processes()
    with subprocess.Popen([device.program, "ctl", "stop-composition", "Slow"], env=device.environ):
        until((device.root / "asked-to-end").exists, "it is asked to end")

        device.ask("start-composition", "Slow")

    assert "alone" in device.log()
    assert "not alone" not in device.log()
    [new] = device.module_processes()
    assert new != old


def test_a_start_after_a_failed_one_waits_for_the_end_of_the_old_modules(device: Device) -> None:
    device.write_composition("Slow", RELUCTANT + HELD_UP + READY)
    assert device.ctl("start-composition", "Slow", "--timeout", "0.5").returncode == 1
    (device.root / "go").touch()

    device.ask("start-composition", "Slow")

    assert "not alone" not in device.log()
    assert len(device.module_processes()) == 1


HELD_UP = """
import os, pathlib, time
while not pathlib.Path(os.environ["ROBOTICKS_ROOT"], "go").exists():
    time.sleep(0.005)
"""

READY = """
import json, os, time, zmq
bus = zmq.Context().socket(zmq.XPUB)
bus.connect(os.environ["ROBOTICKS_BUS_PUBLISH"])
bus.recv()
names = {"module": os.environ["ROBOTICKS_MODULE"], "composition": os.environ["ROBOTICKS_COMPOSITION"]}
bus.send_multipart([b"/roboticks/module/ready", json.dumps(names).encode()])
time.sleep(600)
"""

RELUCTANT = """
import fcntl, os, pathlib, signal, time
root = pathlib.Path(os.environ["ROBOTICKS_ROOT"])
lock = open(root / "only-one", "w")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    print("alone", flush=True)
except OSError:
    print("not alone", flush=True)
def end(*_):
    (root / "asked-to-end").touch()
    time.sleep(0.3)
    os._exit(0)
signal.signal(signal.SIGTERM, end)
"""


def test_one_ready_module_is_not_enough(device: Device) -> None:
    device.write_composition("Half", HALF_READY, modules=("one", "two"))

    completed = device.ctl("start-composition", "Half", "--timeout", "0.5")

    assert completed.returncode == 1
    assert "not ready within 0.5 s: " in completed.stderr
    assert "two" in completed.stderr.rpartition(":")[2]


HALF_READY = """
import json, os, time, zmq
bus = zmq.Context().socket(zmq.XPUB)
bus.connect(os.environ["ROBOTICKS_BUS_PUBLISH"])
bus.recv()
names = {"module": os.environ["ROBOTICKS_MODULE"], "composition": os.environ["ROBOTICKS_COMPOSITION"]}
if names["module"] == "one":
    bus.send_multipart([b"/roboticks/module/ready", json.dumps(names).encode()])
time.sleep(600)
"""


def test_a_program_that_does_not_exist_fails_the_start(device: Device) -> None:
    folder = device.root / "deployment" / "Missing"
    folder.mkdir()
    (folder / "composition.yaml").write_text("modules: [{name: only, command: [no-such-program]}]")

    completed = device.ctl("start-composition", "Missing")

    assert completed.returncode == 1
    assert "no-such-program" in completed.stderr


def test_a_module_that_dies_while_running_fails_the_composition(platform: Platform, device: Device) -> None:
    device.ask("start-composition", "HelloWorldComposition", "--mode", "dev")
    [greeter] = [pid for pid in device.module_processes() if b"=greeter\0" in Path(f"/proc/{pid}/environ").read_bytes()]

    os.kill(greeter, signal.SIGSEGV)

    def failed() -> list[dict[str, Any]]:
        return [entry for entry in device.state()["compositions"] if entry["status"] == "failed"]

    [entry] = until(failed, "the composition has failed")
    assert entry["error"].startswith("greeter was ended by SIGSEGV: ")
    assert "Composition HelloWorldComposition failed: greeter was ended by SIGSEGV" in device.log()
    until(lambda: status_at(platform, device, "HelloWorldComposition") == "failed", "the heartbeat tells it")
    until(lambda: not device.module_processes(), "the other module is ended")


def test_a_bad_composition_file_is_one_sentence_and_hides_no_other(device: Device) -> None:
    folder = device.root / "deployment" / "Bad"
    folder.mkdir()
    (folder / "composition.yaml").write_text("modules: []")

    completed = device.ctl("start-composition", "Bad")
    listed = device.ask("list-compositions")

    assert completed.returncode == 1
    assert "Bad/composition.yaml: modules must be a list of at least one module" in completed.stderr
    assert len(listed["compositions"]) == 2
    assert len(listed["errors"]) == 1


def test_autostart_starts_the_one_composition_in_the_mode_that_the_environment_names(
    platform: Platform, tmp_path: Path
) -> None:
    with device_of(platform, tmp_path / "auto") as device:
        device.deploy()
        device.configure(bus_port=0, autostart="all")
        device.environment = {"ROBOTICKS_COMPOSITION": "HeartbeatComposition", "ROBOTICKS_COMPOSITION_MODE": "dev"}
        device.start()

        until(lambda: [e["status"] for e in device.state()["compositions"]] == ["running"], "it runs")
        assert (device.state()["compositions"][0]["name"], device.state()["compositions"][0]["mode"]) == (
            "HeartbeatComposition",
            "dev",
        )


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("ROBOTICKS_COMPOSITION", "Nonsense", "ROBOTICKS_COMPOSITION: 'Nonsense' is not among the compositions"),
        ("ROBOTICKS_COMPOSITION_MODE", "fast", "composition HelloWorldComposition has no mode 'fast'"),
    ],
)
def test_an_unknown_composition_or_mode_in_the_environment_is_a_logged_error(
    platform: Platform, tmp_path: Path, variable: str, value: str, words: str
) -> None:
    with device_of(platform, tmp_path / "auto") as device:
        device.deploy()
        device.configure(bus_port=0, autostart="all")
        device.environment = {variable: value}
        device.start()

        until(lambda: words in device.log(), "the error is logged")
        assert device.ask("status")["compositions"] == []


def test_autostart_and_auto_session_of_device_yaml(platform: Platform, tmp_path: Path) -> None:
    with device_of(platform, tmp_path / "auto") as device:
        device.deploy()
        device.configure(bus_port=0, autostart="all", auto_session=True)
        device.start()

        until(lambda: [e["status"] for e in device.state()["compositions"]] == ["running"] * 2, "all compositions run")
        until(lambda: (device.state()["session"] or {}).get("status") == "active", "a session")
