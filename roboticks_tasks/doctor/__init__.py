"""doctor: what is wrong with a bench, before a run finds it out."""

from roboticks_tasks.doctor.diagnosis import diagnose
from roboticks_tasks.doctor.findings import Diagnosis, Finding

__all__ = ["Diagnosis", "Finding", "diagnose"]
