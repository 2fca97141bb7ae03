"""The sizes that messages are taken to have are near what the product's encoder makes of them."""

from typing import get_args

import pytest

from pamdi.core import messages as ms
from pamdi.core.work import Key, Visit, Work, WorkId
from pamdi.simulator.wire import control_bytes

KEY = Key("gate-camera", "frame-12345", 0, 0, 3)
WORK = WorkId("gate-camera", "frame-12345")
BACKLOG = ms.Backlog(0.0125, (ms.ClassBacklog(10.0, 0.1), ms.ClassBacklog(1.0, 0.7)))
PATH = tuple(Visit(u, u + 1, "d0", 0.01, 0.025, 0.002, 0.1) for u in range(4))
READY = tuple(ms.ReadySegment("resnet56", u, u + 1, 0.025) for u in range(8))
SAID = [
    ms.Beacon("d0", READY, BACKLOG),
    ms.Rtc(KEY, "resnet56", 10.0, 65536, 0.025, 0.1, 0.4, 0.02),
    ms.Ctc(KEY, 1.0, BACKLOG),
    ms.Refusal(KEY, "busy", BACKLOG),
    ms.Revoked(KEY, BACKLOG),
    ms.Withdrawn(KEY),
    ms.Taken(KEY),
    ms.PassedOn(KEY),
    ms.Answer(Work(KEY, "resnet56", "d0", 10.0, 0.2, None, None, PATH), error="no_route"),
    ms.Finished(tuple(WORK for _ in range(20))),
    ms.Where(WORK, 1),
    ms.Here(WORK, 1, True),
    ms.Holding(tuple(KEY for _ in range(20))),
]


@pytest.mark.parametrize("message", SAID, ids=lambda message: type(message).__name__)
def test_a_message_takes_about_as_many_bytes_as_its_encoding(message: ms.AnyMessage) -> None:
    real = len(ms.encode(message))
    assert real / 2 <= control_bytes(message) <= real * 2


def test_every_message_without_a_payload_has_a_size() -> None:
    with_payload = {ms.Tensor}
    assert {type(message) for message in SAID} | with_payload == set(get_args(ms.AnyMessage))
