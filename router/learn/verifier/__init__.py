"""Trains what judges answers (`router.verify.verifier`): answered tables in, a verifier and its held-out figures
out."""

from router.learn.verifier.answered import Answered, answered
from router.learn.verifier.fit import fit
from router.learn.verifier.training import Judged, Report, held_out, judged_by, run

__all__ = ["Answered", "Judged", "Report", "answered", "fit", "held_out", "judged_by", "run"]
