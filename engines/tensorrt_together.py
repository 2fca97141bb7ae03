"""Several works of one segment on TensorRT: as few batches as hold them, the next one on its way while one computes.

A batch that fails is run again work by work, so that a work's failure is its own.
"""

from collections import deque
from typing import TYPE_CHECKING, Deque, Dict, List, Mapping, Sequence

import numpy as np

from pamdi.core.errors import BadInput
from pamdi.engines.backend import Outcome, check_tensors
from pamdi.engines.resident import where_of

if TYPE_CHECKING:
    from pamdi.engines.tensorrt_backend import Loaded, TensorRTBackend

Works = Sequence[Mapping[str, "np.ndarray"]]


def run_works(backend: "TensorRTBackend", handle: "Loaded", works: Works, urgent: bool) -> List[Outcome]:
    """Each work's outputs, or why it has none, in order."""
    outcomes: Dict[int, Outcome] = {}
    groups = _groups(handle, works, backend.batch_max(handle), outcomes)
    begun: Deque[List[int]] = deque()
    while groups or begun:
        if not groups or len(begun) == backend.in_flight_max:
            outcomes.update(_parts(backend, begun.popleft()))
            continue
        group = groups.pop(0)
        try:
            backend.begin(handle, [works[i] for i in group], urgent)
            begun.append(group)
        except Exception as error:  # a vendor's runtime may raise anything
            if len(group) == 1:
                outcomes[group[0]] = error
            else:
                groups[:0] = [[i] for i in group]
    return [outcomes[i] for i in range(len(works))]


def _groups(handle: "Loaded", works: Works, most: int, outcomes: Dict[int, Outcome]) -> List[List[int]]:
    """Numbers of the works that fit together, in order. What cannot run at all has its outcome at once."""
    groups: List[List[int]] = []
    room = 0
    for number, work in enumerate(works):
        try:
            check_tensors(where_of(work), handle.entering, str(handle.segment))
        except BadInput as error:
            outcomes[number] = error
            continue
        count = _count(work)
        if not groups or count > room or most == 1:
            groups.append([])
            room = most
        groups[-1].append(number)
        room -= count
    return groups


def _parts(backend: "TensorRTBackend", group: List[int]) -> Dict[int, Outcome]:
    try:
        return dict(zip(group, backend.finish()))
    except Exception as error:
        return dict.fromkeys(group, error)


def _count(work: Mapping[str, "np.ndarray"]) -> int:
    return int(next(iter(where_of(work).values())).shape[0])
