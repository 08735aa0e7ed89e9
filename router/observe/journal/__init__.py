"""The journal: the ledger's records as JSON lines in a folder of segments.

    ledger --once a tick--> journal --queue--> writer (a thread) --> headgate-TIME-NUMBER.jsonl
                                                                            |
                           `headgate journal`, `data import`, replay <-- reader

A segment has a bound on size and age, and the folder on both. A process never writes to another one's segment: what a
killed process left is read up to its last whole line.
"""

from router.observe.journal.folder import check_folder
from router.observe.journal.journal import Journal
from router.observe.journal.lines import FeedbackLine, Line
from router.observe.journal.reader import Reader

__all__ = ["FeedbackLine", "Journal", "Line", "Reader", "check_folder"]
