"""Everything that may come on a link, and what is said to what is none of it.

A newer peer may say more than we understand. That is counted, it ends nothing, and it is answered, once per life of a
link, with the words that we do understand: whoever hears it tells a person which device should be updated.
"""

from typing import FrozenSet, Sequence, Tuple, Union

import msgspec

from pamdi.core import messages as ms
from pamdi.daemon.envelope import Envelope
from pamdi.daemon.probe import Probe


class Understood(ms.Message, frozen=True, tag=True):
    """You have said something that I cannot read. ``kinds``: the messages that I know, by name."""

    kinds: Tuple[str, ...] = ()


Word = Union[ms.AnyMessage, Envelope, Probe, Understood]
KINDS: FrozenSet[str] = frozenset(kind.__name__ for kind in Word.__args__)  # type: ignore[attr-defined]
_decoder = msgspec.msgpack.Decoder(Word)


def decode(data: bytes) -> "Word":
    """Raises msgspec.DecodeError or msgspec.ValidationError for what is not one of ours."""
    word: "Word" = _decoder.decode(data)
    return word


def understood() -> bytes:
    """What we answer, encoded."""
    return msgspec.msgpack.encode(Understood(tuple(sorted(KINDS))))


def not_understood(peer: str, kinds: Sequence[str]) -> str:
    """What a person is told of ``peer``, who has answered so."""
    unknown = ", ".join(sorted(KINDS - set(kinds)))
    if unknown:
        return f"{peer} does not understand {unknown}: it is of an older version, update it"
    return f"{peer} could not read a message of this device: update the older of the two"
