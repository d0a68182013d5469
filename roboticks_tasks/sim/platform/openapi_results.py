"""Schemas of the OpenAPI document: what has to do with test runs and their results."""

from __future__ import annotations

from roboticks_tasks.sim.platform import ingest, parse, runs, store_test_runs
from roboticks_tasks.sim.platform.openapi_words import (
    ANYTHING,
    NEVER,
    TEXT,
    TIME,
    Schema,
    list_of,
    nullable,
    object_of,
    text_of,
    whole,
)
from roboticks_tasks.sim.platform.serving import PAGE_LIMIT

TOKEN = {
    "id": {"type": "integer"},
    **dict.fromkeys(("token_prefix", "name"), TEXT),
    "description": nullable("string"),
    "max_uses": nullable("integer"),
    "uses_count": {"type": "integer"},
    "created_at": TIME,
    **dict.fromkeys(("last_used_at", "expires_at", "revoked_at"), NEVER),
}
EVENT = {
    "nodeid": text_of(runs.NODEID_LIMIT),
    "at": {"type": "number", "minimum": 0, "maximum": parse.LATEST},
}
COUNT: Schema = {"type": "integer"}
STATUSES = ["running", "passed", "failed", "error"]

SCHEMAS: dict[str, Schema] = {
    "Results": object_of({"junit": {"type": "string", "format": "binary"}, "metadata": TEXT}),
    "Ingested": object_of(
        {
            **dict.fromkeys(("test_run_id", "run_name"), TEXT),
            "status": {"enum": STATUSES},
            **dict.fromkeys(("cases_ingested", "confirms_links_created"), COUNT),
        }
    ),
    "NewFiles": object_of(
        {
            "files": {
                **list_of(
                    object_of(
                        {"filename": text_of(), "size_bytes": whole(0, ingest.FILE_LIMIT)}, {"content_type": text_of()}
                    )
                ),
                "minItems": 1,
                "maxItems": ingest.MOST_FILES,
            }
        }
    ),
    "Addresses": object_of(
        {"uploads": list_of(object_of({**dict.fromkeys(("filename", "url", "s3_uri"), TEXT), "fields": ANYTHING}))}
    ),
    "Upload": object_of({"file": {"type": "string", "format": "binary"}}, {"key": TEXT}),
    "Content": {"type": "string", "format": "binary"},
    "NewIngestToken": object_of(
        {"name": text_of()},
        {
            "description": {"anyOf": [text_of(2000), {"type": "null"}]},
            "max_uses": {**whole(1, ingest.MOST_USES), "type": ["integer", "null"]},
            "expires_at": {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]},
        },
    ),
    "IngestToken": object_of(TOKEN),
    "NewIngestTokenShown": object_of({**TOKEN, "token": TEXT}),
    "IngestTokens": list_of({"$ref": "#/components/schemas/IngestToken"}),
    "TestRun": object_of(
        {
            **dict.fromkeys(("id", "run_name"), TEXT),
            "status": {"enum": STATUSES},
            **dict.fromkeys(("branch", "commit_sha", "release", "ci_provider", "ci_run_url"), nullable("string")),
            "pr_number": nullable("integer"),
            **{f"tests_{key}": {"type": "integer"} for key in ("total", "passed", "failed", "skipped")},
            "requirement_coverage_pct": nullable("number"),
            "started_at": TIME,
            "completed_at": NEVER,
            "duration_seconds": {"type": "number"},
        }
    ),
    "TestRuns": list_of({"$ref": "#/components/schemas/TestRun"}),
    "TestCases": object_of(
        {
            "test_cases": list_of(
                object_of(
                    {
                        **dict.fromkeys(("name", "classname", "nodeid", "status"), TEXT),
                        "message": nullable("string"),
                        "duration_seconds": nullable("number"),
                        "confirms": list_of(TEXT),
                    }
                )
            )
        }
    ),
    "Files": object_of(
        {"files": list_of(object_of({"key": TEXT, "size": {"type": "integer"}, "last_modified": TIME}))}
    ),
    "Download": object_of({"download_url": TEXT}),
    "Progress": object_of(
        {
            "events": {
                **list_of(
                    {
                        "anyOf": [
                            object_of({"event": {"const": runs.BEGUN}, **EVENT}),
                            object_of(
                                {"event": {"const": runs.ENDED}, **EVENT, "outcome": {"enum": list(runs.OUTCOMES)}},
                                {
                                    "duration": {"type": ["number", "null"], "minimum": 0, "maximum": runs.LONGEST},
                                    **dict.fromkeys(("classname", "name", "message"), nullable("string")),
                                },
                            ),
                        ]
                    }
                ),
                "maxItems": runs.MOST_EVENTS,
            }
        },
        {"total": {**whole(0, store_test_runs.MOST_CASES), "type": ["integer", "null"]}},
    ),
    "Accepted": object_of({"accepted": {"type": "integer"}}),
}

QUERY: dict[str, Schema] = {
    "include_revoked": {"enum": ["true", "false"]},
    "recursive": {"enum": ["true", "false"]},
    "run_status": {"enum": list(store_test_runs.STATUSES)},
    "run_limit": whole(1, PAGE_LIMIT),
    "path": {"type": "string", "minLength": 1},
    "expires": {"type": "integer", "minimum": 0},
    **dict.fromkeys(("branch", "nodeid", "prefix", "signature"), TEXT),
}
NAMES = {"run_status": "status", "run_limit": "limit"}
