"""Models: N networks of one architecture as a stack, how they are run, what they are judged by, and their files."""

from onebasin.models.running import forward

__all__ = ["forward"]
