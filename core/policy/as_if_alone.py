"""``as-if-alone``: ours. The urgent source should notice as little as possible that it is not alone, and the others
should lose no more than that costs.

Six things are added to ``pa-mdi``, each a flag of its own, so that each can be measured alone: what is left of the
way counts (``ahead``); our own tensors that wait for the radio count as delay; a second of transfer costs a work below
the highest class ``TRANSFER_PRICE``, since whoever sends on a medium takes from all who wait for it, the urgent ones
among them, and the rule counts but its own delay; a work waits for its own device where that is quicker than anybody
who has room now; the backlog that others hear of counts what waits for a place, not only
what has one, so that nobody sends over a busy radio to a device that has enough of its own; a segment stands back for
a promised, more urgent tensor (``holding_back``).
``make paper`` compares the whole with the others.
"""

from typing import Sequence

from pamdi.core.policy.rule import Candidate, Policy, Waiting

# Tuned in the simulator on the radio settings of the paper (seeds 101 to 103): at 1.5 and 2 the others are slower, at 4
# and more devices idle that a transfer would have kept busy. On a cable it hardly matters.
TRANSFER_PRICE = 3.0


class AsIfAlone(Policy):
    name = "as-if-alone"
    source = "this project: pa-mdi that looks ahead, weighs its link, waits, tells what waits, stands back (make paper)"
    looks_ahead = True
    weighs_links = True
    transfer_price = TRANSFER_PRICE
    patient = True
    tells_waiting = True
    hold_share = 0.5

    def pick(self, work: Waiting, candidates: Sequence[Candidate], now: float) -> Candidate:
        """Age and urgency are the same for every candidate of one work, so they are left out."""
        return min(candidates, key=lambda c: c.transfer_s + c.backlog_s + c.compute_s + c.rest_s)
