"""The report of a run as one page that needs nothing else: open `writing` first."""

from roboticks_tasks.reporting.page.logs import Timeline
from roboticks_tasks.reporting.page.text import anchor_of
from roboticks_tasks.reporting.page.writing import write_page

__all__ = ["Timeline", "anchor_of", "write_page"]
