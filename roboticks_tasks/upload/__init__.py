"""Results of a run, and the files beside them, on their way to the platform."""

from roboticks_tasks.upload.uploading import upload_run
from roboticks_tasks.upload.values import UploadReport

__all__ = ["UploadReport", "upload_run"]
