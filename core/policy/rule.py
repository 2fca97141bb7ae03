"""The paper's rule in one expression, and what a policy may decide.

A worker n that holds task (m, d, k) hands it to the neighbour n' (or itself) that minimises

    ( D_nn' + A_md + W_mk * c_n' + Q_n' ) / ( gamma_m * alpha_m )

(PA-MDI, arXiv 2412.12371; the terms are known second hand, the symbols are inferred.) D: seconds to move the tensor;
A: age of the data; W * c: seconds of the next segment on n'; Q: backlog that the work would meet on n'.

For ONE task, A and gamma * alpha are the same for every candidate and cannot change which worker wins. Over PAIRS of
task and worker, gamma favours urgent work, but +A makes old work look worse and can starve it. So ours picks the
*work* first, by highest gamma * alpha and then oldest, and the *worker* by the ratio; the pairwise reading is kept as
a policy of its own.
"""

from typing import Dict, Sequence, Tuple

import msgspec

from pamdi.core.allocation import Route


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """A device that could run a work's next segment, and what that would cost in seconds. ``rest_s``: from the end of
    that segment until the answer is at its head, by the cheapest way known; 0 unless the policy looks ahead."""

    device: str
    transfer_s: float
    compute_s: float
    backlog_s: float
    rest_s: float = 0.0


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """What a policy may know of a work that waits: ``continuing`` when its last segment ran on this device."""

    source: str
    id: str
    head: str
    boundary: int
    urgency: float
    born: float
    continuing: bool


class Policy:
    """What differs between methods. The defaults are ours and the paper's (``pa-mdi``)."""

    name = "pa-mdi"
    youngest_first = False  # the order within one class of one queue that ``rank`` implies
    looks_ahead = False  # whether ``rest_s`` of candidates is worked out
    weighs_links = False  # whether D counts our own tensors that are still on their way, or about to be
    transfer_price = 1.0  # what a second of D costs a work that is not of the highest class; at least 1
    patient = False  # whether a work may wait for its own device although a neighbour has room now
    binds = False  # whether ``may_take`` ever says no: so for a policy that has its own
    tells_waiting = False  # whether works that wait here for a place count in the backlog that others hear of
    batches_beside_urgent = False  # whether works are batched while a more urgent one waits or was promised room
    hold_share = 0.0  # of a segment's seconds: how long it may be held back for a more urgent tensor that was promised
    source = "Li, Seferoglu: Priority-Aware Model-Distributed Inference at Edge Networks (arXiv 2412.12371)"

    def __init_subclass__(cls) -> None:
        cls.binds = cls.may_take is not Policy.may_take

    def urgency(self, urgency: float) -> float:
        """The class in which a work of gamma * alpha ``urgency`` queues, everywhere."""
        return urgency

    def rank(self, work: Waiting, now: float) -> Tuple[float, ...]:
        """Which work next: smallest first. Most urgent, then one that goes on where it is, then oldest."""
        return (-work.urgency, 0.0 if work.continuing else 1.0, work.born)

    def may_take(self, work: Waiting, device: str, here: str, routes: Dict[str, Tuple[Route, ...]]) -> bool:
        """Whether ``device`` may run the next segment of ``work``, which is ``here`` now."""
        return True

    def pick(self, work: Waiting, candidates: Sequence[Candidate], now: float) -> Candidate:
        """Which worker next: the smallest of the paper's ratios. Ties go to the first: callers list their own device
        first, then by name. (A loop, and not ``min`` with a key: this is the core's innermost line.)

        It is not asked where the answer is plain: see ``Asking.stays``."""
        age_s, urgency = now - work.born, work.urgency
        best, least = candidates[0], float("inf")
        for c in candidates:
            ratio = (c.transfer_s + age_s + c.compute_s + c.backlog_s) / urgency
            if ratio < least:
                best, least = c, ratio
        return best
