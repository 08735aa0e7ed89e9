"""Hosts and cores are killed, clients leave, deadlines pass and the server ends, all at random: each request ends
exactly once, and its client, the ledger, the metrics and the journal agree on how."""

import time

from tests.storm import arrows
from tests.storm.house import storm

SEEDS = (1, 2, 3)
#: More seeds follow for as long until every arrow was taken: on a slow machine some moments are rarely hit.
PATIENCE_S = 240.0


def test_in_a_storm_each_request_ends_once_in_client_ledger_and_metrics_by_every_arrow_of_its_states() -> None:
    taken: set[str] = set()
    begun = time.monotonic()
    for seed in SEEDS:
        taken |= storm(seed)
    while missing := arrows.ALL - taken:
        assert time.monotonic() - begun < PATIENCE_S, f"after {seed} storms nothing took {sorted(missing)}"
        seed += 1
        taken |= storm(seed)
