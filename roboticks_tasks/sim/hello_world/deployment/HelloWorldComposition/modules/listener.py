"""Answer each greeting, in order, on `/hello/answer`."""

from __future__ import annotations

import os

from module_bus import ModuleBus  # type: ignore[import-not-found]  # it lies beside this file

TOPIC = "/hello/answer"


def main() -> None:
    """Answer until the device manager ends this process."""
    log_every = int(os.environ["HELLO_LOG_EVERY"])
    bus = ModuleBus("/hello/greeting")
    bus.say_ready()
    for _topic, greeting in bus.messages():
        sequence = bus.publish(TOPIC, answer_to=greeting["sequence"], text=f"{greeting['text']} to you, too")
        if sequence % log_every == 1 % log_every:
            print(f"INFO Answered greeting {greeting['sequence']}", flush=True)


if __name__ == "__main__":
    main()
