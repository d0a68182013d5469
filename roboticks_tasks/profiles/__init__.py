"""Profiles: one TOML file per kind of hardware, read into frozen values."""

from roboticks_tasks.profiles.boards import board_of, candidates
from roboticks_tasks.profiles.files import find_profiles, load_profile
from roboticks_tasks.profiles.values import Board, Profile

__all__ = ["Board", "Profile", "board_of", "candidates", "find_profiles", "load_profile"]
