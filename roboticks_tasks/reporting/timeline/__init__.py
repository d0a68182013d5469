"""Everything that was said in a run, on one clock."""

from roboticks_tasks.reporting.timeline.building import build_timeline
from roboticks_tasks.reporting.timeline.file import Timeline

__all__ = ["Timeline", "build_timeline"]
