"""Query to the weighted texts that a head reads."""

from router.features.conversation import segments

__all__ = ["segments"]
