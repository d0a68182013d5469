"""JUnit files and files beside them, sent to a platform by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import quoteattr

from tests.contract.platform_process import Platform

NODEID = "tests/test_arm.py::test_{}"


def case(name: str, body: str = "", *, attach: Mapping[str, str] | None = None, confirms: str = "") -> str:
    """Return a case of a JUnit file as the platform's own plugin has it written."""
    properties = {"roboticks.nodeid": NODEID.format(name), **({"roboticks.confirms": confirms} if confirms else {})}
    properties |= {f"roboticks.attach.{kind}": value for kind, value in (attach or {}).items()}
    words = "".join(f"<property name={quoteattr(key)} value={quoteattr(value)}/>" for key, value in properties.items())
    properties_element = f"<properties>{words}</properties>"
    return f'<testcase classname="tests.test_arm" name="test_{name}" time="0.5">{properties_element}{body}</testcase>'


def suite(*cases: str) -> str:
    """Return a JUnit file of these cases."""
    head = '<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite name="pytest" time="1.5">'
    version = '<properties><property name="roboticks_schema_version" value="2"/></properties>'
    return f"{head}{version}{''.join(cases)}</testsuite></testsuites>"


def post(platform: Platform, junit: str | bytes, *, name: str = "a run", **options: Any) -> Any:
    """Send results as the platform's own client does, and return the response; `metadata` may be anything."""
    metadata = options.pop("metadata", {"run_name": name})
    content = junit.encode() if isinstance(junit, str) else junit
    return platform.call(
        "POST",
        "ingest/junit",
        files={"junit": ("results.xml", content)},
        data={"metadata": metadata if isinstance(metadata, str) else json.dumps(metadata)},
        **options,
    )


def ingest(platform: Platform, junit: str, **options: Any) -> dict[str, Any]:
    """Send results that must be taken, and return the answer."""
    response = post(platform, junit, **options)
    assert response.ok, response.text
    answer: dict[str, Any] = response.json()
    return answer


def upload_address(platform: Platform, filename: str, size: int) -> dict[str, Any]:
    """Announce one file and return where it goes."""
    wanted = [{"filename": filename, "size_bytes": size, "content_type": "text/plain"}]
    response = platform.call("POST", "ingest/mcap-upload-urls", json={"files": wanted})
    assert response.status_code == 200, response.text
    address: dict[str, Any] = response.json()["uploads"][0]
    return address
