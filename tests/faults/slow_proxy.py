"""A proxy that can also be slow."""

from __future__ import annotations

import socket
import time

from tests.contract.tcp_proxy import TcpProxy


class SlowProxy(TcpProxy):
    """Pass on each piece of up to 64 KiB only after `delay` seconds."""

    delay = 0.0

    def _pass_on(self, source: socket.socket) -> None:
        if self.delay:
            time.sleep(self.delay)
        super()._pass_on(source)
