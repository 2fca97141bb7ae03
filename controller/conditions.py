"""Why a device is not what its calibration table says, or has no table: a line each, with the cure, for the log."""

from typing import List, Mapping

from pamdi.calibration.power_mode import other_mode
from pamdi.controller.seen import Seen
from pamdi.controller.slowed import NORMAL
from pamdi.controller.wanted import Wanted


def conditions(devices: Mapping[str, Seen], wanted: Wanted) -> List[str]:
    online = {id: seen for id, seen in sorted(devices.items()) if seen.online}
    return [line for id, seen in online.items() for line in (*_slow(id, seen), *_mode(id, seen, wanted))] + [
        line for id, seen in online.items() for line in _type(id, seen, wanted)
    ]


def _slow(id: str, seen: Seen) -> List[str]:
    if seen.speed.planned is NORMAL:
        return []
    factor = seen.speed.planned.factor
    return [
        f"{id} takes {factor:.2g} times its table's seconds and is planned with so: cool it, look at its power mode, "
        "or calibrate it anew"
    ]


def _mode(id: str, seen: Seen, wanted: Wanted) -> List[str]:
    if seen.info is None:
        return []
    kind = seen.info.type
    modes = [mode for (_, type), mode in wanted.power_modes.items() if type == kind]
    return other_mode(id, kind, seen.power_mode, modes)


def _type(id: str, seen: Seen, wanted: Wanted) -> List[str]:
    kind = seen.info.type if seen.info is not None else ""
    return [
        f"{id} is of type {kind} and gets no part of {model.id}, whose seconds are of "
        f"{', '.join(sorted(model.seconds))}: `pamdi calibrate latency DIR --device {kind}` on it, and name the table"
        for model in wanted.models.values()
        if kind not in model.seconds
    ]
