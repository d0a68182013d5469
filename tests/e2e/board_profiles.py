"""Profiles of boards that are on this machine, as a user would write them."""

from __future__ import annotations

from pathlib import Path

from tests.contract.pty_board import PtyBoard
from tests.contract.sshd import Sshd

HELLO_WORLD = """
[deployment]
path = "package:roboticks_tasks.sim/hello_world/deployment"

[tests]
command = "pytest --pyargs roboticks_tasks.sim.hello_world.hil -v -p no:anyio -p no:cacheprovider"
timeout = 120
"""


def manager(kind: str, root: Path, *, more: str = "") -> str:
    """Return [device_manager] of a kind, with everything below `root`."""
    return f"""
[device_manager]
kind = "{kind}"
root = "{root}"
registration_file = "{{root}}/etc/roboticks/registration.json"
certificate_file = "{{root}}/etc/roboticks/device.crt"
{more}
"""


def over_ssh(sshd: Sshd, *, device_manager: str, suite: str = HELLO_WORLD, backend: str = "local") -> str:
    """Return a profile of the board behind `sshd`."""
    return f'backend = "{backend}"\n{sshd.profile_text()}\n{device_manager}\n{suite}'


def over_serial(board: PtyBoard, *, device_manager: str, suite: str = HELLO_WORLD, backend: str = "local") -> str:
    """Return a profile of the board whose shell is on its console."""
    return f"""
backend = "{backend}"

[target]
kind = "serial"

[[boards]]
id = "serial-1"
console = {{ port = "{board.port}", baudrate = 115200 }}
power = {{ on = ["{board.power_command}", "on"], off = ["{board.power_command}", "off"], \
state = ["{board.power_command}", "state"], safe = "off", boot_timeout = 20 }}

[timeouts]
launch = 20
deploy = 120
teardown = 15
{device_manager}
{suite}"""
