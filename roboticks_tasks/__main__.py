"""`python -m roboticks_tasks` is `roboticks-tasks`."""

from roboticks_tasks.cli import main

if __name__ == "__main__":
    main()
