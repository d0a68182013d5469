"""Profiles: one TOML file per kind of hardware, read into frozen values."""

from roboticks_tasks.profiles.files import find_profiles, load_profile
from roboticks_tasks.profiles.values import Profile

__all__ = ["Profile", "find_profiles", "load_profile"]
