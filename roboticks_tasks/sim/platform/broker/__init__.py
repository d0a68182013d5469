"""An MQTT 3.1.1 broker for one machine, on asyncio and the standard library alone.

Every client proves who it is with a certificate: its common name is its identity and must be its client id. To be read
in this order: `packets` and `parsing`, the wire format as pure functions; `session`, what outlives a connection;
`link`, a connection; `server`, what a packet of one means for all.

Our choices where the standard leaves room. QoS 2 is accepted from publishers with its full handshake (no duplicates)
and delivered at QoS 1. A denied publish is acknowledged, dropped and counted; a denied subscribe is answered with
0x80; a connect with a denied will is refused. A client that reads too slowly first loses QoS 0 messages and is then
disconnected; a persistent session that is full while its client is away loses what comes next. Sessions live in memory.
"""

from roboticks_tasks.sim.platform.broker.limits import Limits
from roboticks_tasks.sim.platform.broker.server import Broker, start

__all__ = ["Broker", "Limits", "start"]
