"""Greet the world: publish `/hello/greeting` at each period."""

from __future__ import annotations

import os
import time

from module_bus import ModuleBus  # type: ignore[import-not-found]  # it lies beside this file

TOPIC = "/hello/greeting"


def main() -> None:
    """Greet until the device manager ends this process."""
    text, period = os.environ["HELLO_TEXT"], float(os.environ["HELLO_PERIOD"])
    log_every = int(os.environ["HELLO_LOG_EVERY"])
    bus = ModuleBus()
    bus.say_ready()
    print(f"INFO Greeting every {period:g} s with {text!r}", flush=True)
    while True:
        sequence = bus.publish(TOPIC, text=text)
        if sequence % log_every == 1 % log_every:
            print(f"INFO {text} ({sequence})", flush=True)
        time.sleep(period)


if __name__ == "__main__":
    main()
