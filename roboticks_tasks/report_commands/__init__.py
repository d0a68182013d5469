"""Commands of the command line that are about runs which have ended."""
