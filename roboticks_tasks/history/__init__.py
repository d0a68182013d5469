"""What many runs tell together: how long steps take, which tests are flaky, and which boards."""

from roboticks_tasks.history.schema import HistoryError as HistoryError
from roboticks_tasks.history.schema import location as location
from roboticks_tasks.history.store import History as History
