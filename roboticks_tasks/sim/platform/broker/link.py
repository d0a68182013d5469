"""One client's connection: bytes to packets, packets to bytes, and the clocks that end it."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol, cast

from roboticks_tasks.sim.platform.broker.limits import BURST, Limits
from roboticks_tasks.sim.platform.broker.packets import Message, Packet, ProtocolError
from roboticks_tasks.sim.platform.broker.parsing import next_packet
from roboticks_tasks.sim.platform.broker.session import Session

log = logging.getLogger(__name__)


class Hub(Protocol):
    """What a connection needs of the broker."""

    limits: Limits
    links: set[Link]

    def admit(self, link: Link) -> bool:
        """Count a connection of its identity; False when there are too many."""

    def dismiss(self, link: Link) -> None:
        """Forget a connection that `admit` has counted."""

    def receive(self, link: Link, packet: Packet) -> None:
        """Do what a packet asks for; raises ProtocolError."""

    def leave(self, link: Link, *, will: bool) -> None:
        """Take a connection off its session."""

    def note(self, kind: str, text: str, *values: object) -> None:
        """Count and log trouble of a kind."""


class Link(asyncio.Protocol):
    """A connection; the broker hears of each packet, and when it is over."""

    def __init__(self, broker: Hub) -> None:
        self.broker = broker
        self.loop = asyncio.get_running_loop()
        self.identity: str | None = None
        self.session: Session | None = None
        self.will: Message | None = None
        self.closed = self.loop.create_future()
        self.writable = True
        self._paused = self._closing = self._flushing = False
        self._input = bytearray()
        self._output: list[bytes] = []
        self._output_bytes = 0
        self._clock: asyncio.TimerHandle | None = None
        self._credit = float(broker.limits.burst_packets)
        self._credited = self.loop.time()
        self._patience = broker.limits.connect_seconds
        self._heard = self.loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=BURST)
        self.identity = common_name(transport.get_extra_info("peercert"))
        self.broker.links.add(self)
        self._tick()
        if not self.broker.admit(self):
            self.close(abort=True)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._input += data
        if self.session is not None:
            self._heard = self.loop.time()
        at, limit, count = 0, self.broker.limits.packet_bytes, 0
        try:
            while not self._closing and (found := next_packet(self._input, at, limit)) is not None:
                packet, at = found
                count += 1
                self.broker.receive(self, packet)
        except ProtocolError as error:
            self.fail(f"protocol error: {error}")
        del self._input[:at]
        self._pay(count)

    def _pay(self, packets: int) -> None:
        """Take packets off the client's credit; whoever has none left is not read until there is some again."""
        now, limits = self.loop.time(), self.broker.limits
        earned = (now - self._credited) * limits.packets_per_second
        self._credit = min(self._credit + earned, limits.burst_packets) - packets
        self._credited = now
        if self._credit < 0 and not self._closing:
            self.broker.note(
                "throttled", "%s sends more than %s packets a second", self.identity, int(limits.packets_per_second)
            )
            seconds = -self._credit / limits.packets_per_second
            self._heard = now + seconds  # that it is not heard meanwhile is our doing
            self.transport.pause_reading()
            self.loop.call_later(seconds, self._read_again)

    def _read_again(self) -> None:
        if not self._closing:
            self.transport.resume_reading()

    def keep_alive(self, seconds: int) -> None:
        """Expect a packet at least every one and a half times `seconds`, as the standard has it; 0 for never."""
        self._patience, self._heard = seconds * 1.5, self.loop.time()
        if self._clock is not None:
            self._clock.cancel()
        if seconds:
            self._tick()

    def _tick(self) -> None:
        remaining = self._heard + self._patience - self.loop.time()
        if remaining <= 0:
            self.fail("keep-alive expired" if self.session else "no CONNECT in time", abort=True)
        else:
            self._clock = self.loop.call_later(remaining, self._tick)

    def send(self, data: bytes) -> None:
        """Write `data` together with whatever else is said in this turn of the loop."""
        self._output.append(data)
        self._output_bytes += len(data)
        self.writable = not self._paused and self._output_bytes < BURST
        if not self._flushing and not self._paused:
            self._flushing = True
            self.loop.call_soon(self._flush)
        elif self._output_bytes > self.broker.limits.queue_bytes:
            self.loop.call_soon(self.fail, "reads too slowly")

    def _flush(self) -> None:
        self._flushing = False
        if self._paused or self.closed.done():
            return
        if self._output:
            data, self._output, self._output_bytes = b"".join(self._output), [], 0
            self.transport.write(data)  # may call pause_writing
        self.writable = not self._paused
        if self.session is not None:
            self.session.pump()

    def pause_writing(self) -> None:
        self._paused, self.writable = True, False

    def resume_writing(self) -> None:
        self._paused = False
        self._flush()

    def fail(self, reason: str, *, abort: bool = False) -> None:
        """End the connection for a fault of the client, so that its will is published."""
        if not self._closing:
            log.warning("closing the connection of %s: %s", self.identity, reason)
            self.close(abort=abort)

    def close(self, *, abort: bool = False, will: bool = True) -> None:
        """End the connection: after what is written, or at once."""
        if self._closing:
            return
        self._closing = True
        self.broker.leave(self, will=will)
        self._flush()
        if self._clock is not None:
            self._clock.cancel()
        if abort or self._paused:
            self.transport.abort()
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)
        self.close(abort=True)
        self.broker.links.discard(self)
        self.broker.dismiss(self)


def common_name(certificate: object) -> str | None:
    """Return the one common name of a certificate as `ssl` describes it; None when it has none or several."""
    subject = cast("dict[str, tuple[tuple[tuple[str, str], ...], ...]]", certificate or {}).get("subject", ())
    names = [value for group in subject for key, value in group if key == "commonName"]
    return names[0] if len(names) == 1 else None
