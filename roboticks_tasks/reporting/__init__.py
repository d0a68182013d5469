"""Reports: pure functions of a finished run."""
