"""Single-file programs of the standard library alone, which are copied to a board."""
