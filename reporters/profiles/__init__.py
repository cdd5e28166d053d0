"""What a checkpoint was trained on, and how to speak to it: one small description per family."""

from reporters.profiles.families import FAMILIES, find_profile
from reporters.profiles.profile import CARD, Profile

__all__ = ["CARD", "FAMILIES", "Profile", "find_profile"]
