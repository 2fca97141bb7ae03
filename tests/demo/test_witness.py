"""What a listener calls twice: another answer for the same work, and not the same answer said again."""

from typing import Tuple

import msgspec

from pamdi.client.broker_config import BrokerConfig
from pamdi.client.payloads import ResultJson, TensorJson
from pamdi.core.work import Visit
from pamdi.demo.witness import Witness


def counts(witness: Witness) -> Tuple[int, int, int]:
    return len(witness.ends), sum(witness.duplicated.values()), sum(witness.redelivered.values())


def end(id: str, at_s: float = 0.1, status: str = "answered", data: str = "AACAPw==") -> bytes:
    path = (Visit(0, 8, "d0", 0.0, 0.2, 0.0, at_s),)
    return msgspec.json.encode(ResultJson(id, status, outputs={"y": TensorJson("float32", [1], data)}, path=path))


def test_the_same_end_said_again_is_a_redelivery_and_another_one_a_duplicate() -> None:
    witness = Witness(BrokerConfig("mqtt://127.0.0.1:1"))
    for payload in (end("a"), end("b"), end("a")):
        witness.hear("gate", payload)
    assert counts(witness) == (2, 0, 1)
    witness.hear("gate", end("b", at_s=0.2))  # computed again, though with the same bits
    witness.hear("gate", end("a", status="failed"))
    assert counts(witness) == (2, 2, 1)
    assert witness.duplicated == {"gate": 2} and witness.redelivered == {"gate": 1}


def test_ids_belong_to_their_source_and_only_ends_count() -> None:
    witness = Witness(BrokerConfig("mqtt://127.0.0.1:1"))
    for source, payload in (("gate", end("a")), ("yard", end("a", at_s=0.3)), ("gate", end("a", status="admitted"))):
        witness.hear(source, payload)
    witness.hear("gate", b"not json")
    assert counts(witness) == (2, 0, 0) and witness.unreadable == 1
