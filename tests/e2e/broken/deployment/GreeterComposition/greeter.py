"""Greet for ever, with a bug: every fifth greeting is lost, and the log says so."""

from __future__ import annotations

import json
import os
import time

import zmq


def main() -> None:
    """Publish what is not lost."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
    out = context.socket(zmq.XPUB)
    out.connect(os.environ["ROBOTICKS_BUS_PUBLISH"])
    out.recv()  # the device manager listens

    def publish(topic: str, sequence: int) -> None:
        who = {"module": os.environ["ROBOTICKS_MODULE"], "composition": os.environ["ROBOTICKS_COMPOSITION"]}
        message = {"sequence": sequence, "text": os.environ["GREETING"], **who}
        out.send_multipart([topic.encode(), json.dumps(message).encode()])

    publish("/roboticks/module/ready", 1)
    sequence = 0
    while True:
        sequence += 1
        if sequence % 5:
            publish("/hello/greeting", sequence)
        else:
            print(f"ERROR greeting {sequence} is lost: the queue of the voice is full", flush=True)
        time.sleep(0.02)


if __name__ == "__main__":
    main()
