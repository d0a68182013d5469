"""The board's shell over the system's ssh: one connection for all commands, host keys pinned, tunnels that last."""

from roboticks_tasks.targets.ssh.target import SshTarget, open_ssh

__all__ = ["SshTarget", "open_ssh"]
