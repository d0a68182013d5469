"""The platform: its REST client, its credentials, and the local one that is started for a run."""

from roboticks_tasks.backend.client import Client, open_client
from roboticks_tasks.backend.credentials import project_secret

__all__ = ["Client", "open_client", "project_secret"]
