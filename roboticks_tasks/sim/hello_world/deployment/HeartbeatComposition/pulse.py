"""Publish `/heartbeat/pulse` at each period."""

from __future__ import annotations

import itertools
import json
import os
import time

import zmq


def main() -> None:
    """Beat until the device manager ends this process."""
    identity = {
        "module": os.environ["ROBOTICKS_MODULE"],
        "composition": os.environ["ROBOTICKS_COMPOSITION"],
        "mode": os.environ["ROBOTICKS_COMPOSITION_MODE"],
    }
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
    bus = context.socket(zmq.XPUB)
    bus.connect(os.environ["ROBOTICKS_BUS_PUBLISH"])
    bus.recv()  # the bus has subscribed: from now on nothing that is sent is lost

    def publish(topic: str, sequence: int) -> None:
        message = {"sequence": sequence, **identity, "timestamp_us": time.time_ns() // 1000}
        bus.send_multipart([topic.encode(), json.dumps(message).encode()])

    publish("/roboticks/module/ready", 1)
    print("INFO Beating", flush=True)
    for sequence in itertools.count(1):
        publish("/heartbeat/pulse", sequence)
        time.sleep(float(os.environ["PULSE_PERIOD"]))


if __name__ == "__main__":
    main()
