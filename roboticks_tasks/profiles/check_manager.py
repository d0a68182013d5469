"""Checks of a profile's device manager, and of every regular expression."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator

from roboticks_tasks.profiles.problem import Problem, empty_command
from roboticks_tasks.profiles.values import Bindings, DeviceManagerSpec, Profile

SHORTEST_WATCHDOG = 3
"""Seconds; a sign of life has to find its way to the board several times in what one is good for."""


def device_manager(profile: Profile) -> Iterator[Problem]:
    """Yield what contradicts the kind of device manager."""
    spec = profile.device_manager
    several_here = len(profile.boards) > 1 and profile.target.kind == "local" and spec.kind != "firmware"
    if several_here and "{board}" not in spec.root:
        yield Problem(
            "device_manager.root",
            f"{len(profile.boards)} boards on this machine share the folder {spec.root}, so they are one",
            'put {board} into `device_manager.root`: root = ".roboticks/{board}"',
            ("target.kind",),
        )
    source = spec.source
    if source is not None and (source.path is None) == (source.url is None):
        yield Problem(
            "device_manager.source",
            f"`device_manager.source` has {'neither path nor url' if source.path is None else 'both path and url'}",
            'name one: source = { path = "…" } or source = { url = "https://…" }',
        )
    # What has no effect would make its author believe that it has one.
    idle = {
        "flash": spec.flash is not None and spec.kind != "firmware",
        "source": source is not None and spec.kind == "simulated",
        "interpreter": spec.interpreter is not None and spec.kind in {"native", "firmware"},
        "bindings": spec.bindings != Bindings() and spec.kind != "bindings",
        "watchdog": spec.watchdog not in {0, DeviceManagerSpec().watchdog} and spec.kind == "firmware",
    }
    for key in (key for key, is_idle in idle.items() if is_idle):
        yield Problem(
            f"device_manager.{key}",
            f"`device_manager.{key}` means nothing to a device manager of kind {spec.kind}",
            "remove it, or set `device_manager.kind`",
            ("device_manager.kind",),
        )
    if 0 < spec.watchdog < SHORTEST_WATCHDOG:
        yield Problem(
            "device_manager.watchdog",
            f"`device_manager.watchdog` is {spec.watchdog:g} s, in which a healthy run may not be heard",
            f"set it to {SHORTEST_WATCHDOG} or more, or to 0 for no watchdog",
        )
    if spec.kind == "firmware":
        yield from _firmware(profile)


def _firmware(profile: Profile) -> Iterator[Problem]:
    flash = profile.device_manager.flash
    if flash == ():
        yield empty_command("device_manager.flash")
    elif flash is not None and any("{source}" in word for word in flash) and profile.device_manager.source is None:
        yield Problem(
            "device_manager.flash",
            "`device_manager.flash` writes {source}, but there is no `device_manager.source`",
            'add source = { path = "build/firmware.bin" }',
        )
    for index, board in enumerate(profile.boards):
        identity = board.identity
        if identity is not None and (identity.serial or identity.mac or identity.command):
            yield Problem(
                f"boards[{index}].identity",
                f"board {board.id!r} cannot be asked for its identity: firmware has no shell",
                'keep only dsn = "…", which it says when it registers',
                ("device_manager.kind",),
            )
    if profile.session.request == "control":
        yield Problem(
            "session.request",
            "`session.request` is control, but firmware takes no commands from this machine",
            'set [session] request = "platform", or "none" where the firmware starts one by itself',
            ("device_manager.kind",),
        )
    if profile.deployment.path is not None:
        yield Problem(
            "deployment.path",
            "`deployment.path` is set, but no folder can be brought to firmware",
            "remove it: what runs there is flashed",
            ("device_manager.kind",),
        )


def patterns(profile: Profile) -> Iterator[Problem]:
    """Yield every regular expression that is none, or does not name what it finds."""
    spec, login = profile.device_manager, profile.target.login
    expected = [
        ("target.login.login_prompt", login.login_prompt, None),
        ("target.login.password_prompt", login.password_prompt, None),
        ("device_manager.log_patterns.dsn", spec.log_patterns.dsn, "dsn"),
        ("device_manager.log_patterns.session", spec.log_patterns.session, "session"),
        ("device_manager.registration_pattern", spec.registration_pattern, "dsn"),
    ]
    for key, pattern, group in expected:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a future meaning of [[ is not the user's concern
                groups = re.compile(pattern).groupindex
        except (re.error, OverflowError, RecursionError) as error:
            yield Problem(key, f"`{key}` is not a regular expression: {error}", "in TOML, 'single quotes' keep each \\")
            continue
        if group is not None and group not in groups:
            yield Problem(key, f"`{key}` has no group (?P<{group}>…)", f"put (?P<{group}>…) around what it is to find")
