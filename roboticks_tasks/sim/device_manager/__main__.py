"""`python -m roboticks_tasks.sim.device_manager [run | ctl ... | --version]`: choose what to import, and exit."""

from __future__ import annotations

import sys

from roboticks_tasks.sim.device_manager import VERSION

USAGE = "usage: device-manager [run | ctl COMMAND ... | --version]"


def main(arguments: list[str]) -> int:
    """Run one sub-command and return the exit code; `run` is the default."""
    command = arguments[0] if arguments else "run"
    if command == "ctl":
        from roboticks_tasks.sim.device_manager import ctl

        return ctl.main(arguments[1:])
    if command == "--version":
        print(f"device-manager {VERSION} (simulated)")
        return 0
    if command == "run" and len(arguments) <= 1:
        from roboticks_tasks.sim.device_manager import program

        return program.run()
    asked_for_help = command in ("-h", "--help")
    print(USAGE, file=sys.stdout if asked_for_help else sys.stderr)
    return 0 if asked_for_help else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
