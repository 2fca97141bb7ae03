"""How many bytes a message without a payload takes on a link: close enough for its time, without encoding it.

Measured on the product's own encoding with names of usual length; ``tests/simulator/test_wire.py`` holds every entry
within a factor of two of what ``messages.encode`` gives. The header of a tensor is not counted: ``allocation.md``
counts a tensor's own bytes.
"""

from typing import Dict, Type

from pamdi.core import messages as ms

CONTROL_BYTES: Dict[Type[ms.Message], int] = {
    ms.Rtc: 140, ms.Ctc: 100, ms.Refusal: 100, ms.Revoked: 100, ms.Withdrawn: 50, ms.Taken: 45, ms.PassedOn: 48,
    ms.Answer: 300, ms.Where: 50, ms.Here: 60,
}  # fmt: skip


def control_bytes(message: ms.AnyMessage) -> int:
    fixed = CONTROL_BYTES.get(type(message))
    if fixed is not None:
        return fixed
    if isinstance(message, ms.Beacon):
        return 90 + 28 * len(message.ready) + 19 * len(message.backlog.classes)
    if isinstance(message, ms.Finished):
        return 24 + 14 * len(message.works)
    if isinstance(message, ms.Holding):
        return 24 + 18 * len(message.keys)
    return 64
