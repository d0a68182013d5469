"""Who may do what on which MQTT topic."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roboticks_tasks.sim import topics

unhurried = settings(deadline=None)  # a busy machine is no failure
OWN, OTHER = "SIM-0A1B2C3D", "SIM-FFFFFFFF"

dsns = st.from_regex(topics.DSN, fullmatch=True)
actions = st.sampled_from(["publish", "subscribe"])


def test_the_topics_are_those_of_the_documentation() -> None:
    assert topics.heartbeat(OWN) == "roboticks/fleet/SIM-0A1B2C3D/heartbeat"
    assert topics.sessions(OWN) == "roboticks/fleet/SIM-0A1B2C3D/sessions"
    assert topics.logs(OWN) == "roboticks/fleet/SIM-0A1B2C3D/logs"
    assert topics.file_upload_request(OWN) == "roboticks/fleet/SIM-0A1B2C3D/file_upload/request"
    assert topics.session_response(OWN) == "roboticks/fleet/SIM-0A1B2C3D/session/response"
    assert topics.file_upload_response(OWN) == "roboticks/fleet/SIM-0A1B2C3D/file_upload/response"
    assert topics.logs_response(OWN) == "roboticks/fleet/SIM-0A1B2C3D/logs/response"
    assert topics.device_commands(OWN) == "roboticks/devices/SIM-0A1B2C3D/commands"
    assert topics.COMMANDS_BROADCAST == "roboticks/fleet/commands"


@unhurried
@given(dsns)
def test_a_device_may_do_exactly_what_the_rules_say(dsn: str) -> None:
    publishes = [topics.heartbeat, topics.sessions, topics.logs, topics.file_upload_request]
    subscribes = [topics.session_response, topics.file_upload_response, topics.logs_response, topics.device_commands]
    granted = {("publish", topic(dsn)) for topic in publishes} | {("subscribe", topic(dsn)) for topic in subscribes}
    granted.add(("subscribe", topics.COMMANDS_BROADCAST))
    everything = {topic for _, topic in granted}
    for action in ("publish", "subscribe"):
        for topic in everything:
            assert topics.allowed(dsn, action, topic) == ((action, topic) in granted)


@unhurried
@given(identity=dsns, dsn=dsns, action=actions)
def test_a_device_may_do_nothing_with_the_topics_of_another(identity: str, dsn: str, action: str) -> None:
    for _, pattern in topics.DEVICE_RULES:
        if "{dsn}" in pattern and identity != dsn:
            assert not topics.allowed(identity, action, pattern.format(dsn=dsn))


@unhurried
@given(identity=st.text() | dsns, action=st.text() | actions, topic=st.text())
def test_nothing_else_is_allowed(identity: str, action: str, topic: str) -> None:
    if not topic.startswith("roboticks/"):
        assert not topics.allowed(identity, action, topic)


@pytest.mark.parametrize(
    "identity",
    ["", "+", "#", "SIM-0A1B2C3D\n", "sim-0a1b2c3d", "A/B", "{dsn}", "-SIM", "A" * 64, "Ä1"],
)
def test_an_identity_that_is_no_dsn_may_do_nothing(identity: str) -> None:
    for action, pattern in topics.DEVICE_RULES:
        assert not topics.allowed(identity, action, pattern.replace("{dsn}", identity))


@pytest.mark.parametrize("topic_filter", ["#", "+/#", "roboticks/#", "roboticks/fleet/+/session/response"])
def test_a_device_may_not_subscribe_with_wildcards(topic_filter: str) -> None:
    assert not topics.allowed(OWN, "subscribe", topic_filter)


def test_the_platform_may_do_everything_below_the_root_and_nothing_else() -> None:
    for topic in ("roboticks/#", topics.heartbeat("+"), topics.device_commands(OWN)):
        assert topics.allowed(topics.PLATFORM_ID, "subscribe", topic)
    assert topics.allowed(topics.PLATFORM_ID, "publish", topics.device_commands(OWN))
    for topic in ("#", "+/fleet", "$SYS/#", "roboticks", "roboticksx/a"):
        assert not topics.allowed(topics.PLATFORM_ID, "subscribe", topic)
    assert not topics.allowed(topics.PLATFORM_ID, "publish", "roboticks/#")
    assert not topics.allowed(topics.PLATFORM_ID, "delete", "roboticks/fleet")
