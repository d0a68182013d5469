"""The tables of test runs, of the files that belong to them, and of the tokens that let CI bring both.

Times as in the store; a case's `at` and `duration` are seconds, as test tools have them.
"""

TEST_RUNS = (
    """CREATE TABLE IF NOT EXISTS test_runs (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, status TEXT NOT NULL, branch TEXT, commit_sha TEXT,
        pr_number INTEGER, release TEXT, ci_provider TEXT, ci_run_url TEXT, announced INTEGER, duration REAL,
        started_at INTEGER NOT NULL, completed_at INTEGER, kept_at INTEGER NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS test_runs_by_time ON test_runs (started_at)",
    """CREATE TABLE IF NOT EXISTS test_cases (
        run_id TEXT NOT NULL REFERENCES test_runs(id) ON DELETE CASCADE, position INTEGER NOT NULL,
        nodeid TEXT NOT NULL, classname TEXT NOT NULL, name TEXT NOT NULL, status TEXT NOT NULL, duration REAL,
        message TEXT, confirms TEXT NOT NULL DEFAULT '', at REAL NOT NULL DEFAULT 0,
        PRIMARY KEY (run_id, position)) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS test_cases_by_nodeid ON test_cases (run_id, nodeid)",
    """CREATE TABLE IF NOT EXISTS files (
        id TEXT PRIMARY KEY, filename TEXT NOT NULL, size INTEGER NOT NULL, created_at INTEGER NOT NULL,
        stored_at INTEGER, run_id TEXT REFERENCES test_runs(id) ON DELETE CASCADE, key TEXT)""",
    "CREATE INDEX IF NOT EXISTS files_of_run ON files (run_id)",
    """CREATE TABLE IF NOT EXISTS ingest_tokens (
        id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, description TEXT, prefix TEXT NOT NULL,
        digest TEXT NOT NULL UNIQUE, max_uses INTEGER, uses INTEGER NOT NULL DEFAULT 0, created_at INTEGER NOT NULL,
        last_used_at INTEGER, expires_at INTEGER, revoked_at INTEGER)""",
)
