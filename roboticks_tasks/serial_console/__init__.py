"""Serial consoles: the port, the process that owns it and keeps what it says, the line that a client has."""
