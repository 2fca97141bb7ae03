"""A message on its way through somebody else: the words of a tunnel (``tunnel.py``), whoever carries it.

An envelope travels as a message's header does, with the tensors' raw bytes behind it. Those who carry it read where it
goes and how urgent it is; ``header`` and the bytes are the ends' affair. Without a ``header`` it says only that its
sender is there.
"""

import struct
from typing import Any, Tuple

import msgspec

from pamdi.core import messages as ms
from pamdi.core.errors import BadInput

STOPS_MAX = 16  # devices on one way
WAITED_S_MAX = 1e9
HEAD = struct.Struct("<I")


class Envelope(ms.Message, frozen=True, tag=True):
    """``way``: the devices still to come, the target last; ``behind``: those it has left, its sender first. ``session``
    is the sender's number for this life of the tunnel, ``seen`` the target's as the sender knows it (0: not yet).
    ``waited_s``: on the way so far, the present hop not counted. ``dropped``: what ``behind`` says was on its way to
    whoever gets this, or from there, has been lost."""

    way: Tuple[str, ...]
    behind: Tuple[str, ...]
    instance: int = 0
    session: int = 0
    seen: int = 0
    urgency: float = 0.0
    waited_s: float = 0.0
    header: bytes = b""
    dropped: bool = False

    def __post_init__(self) -> None:
        if not self.way or not self.behind or len(self.way) + len(self.behind) > STOPS_MAX:
            raise ValueError(f"an envelope's way has 2 to {STOPS_MAX} devices")
        if not self.urgency >= 0 or not 0 <= self.waited_s < WAITED_S_MAX:
            raise ValueError(f"an envelope of urgency {self.urgency} that has waited {self.waited_s} s")

    @property
    def sender(self) -> str:
        return self.behind[0]

    @property
    def target(self) -> str:
        return self.way[-1]


_envelopes = msgspec.msgpack.Decoder(Envelope)


def pack(envelope: Envelope, body: Tuple[Any, ...] = ()) -> bytes:
    """For carriers that know one string of bytes: the envelope behind its length, then the body."""
    header = msgspec.msgpack.encode(envelope)
    return b"".join((HEAD.pack(len(header)), header, *body))


def unpack(data: bytes) -> Tuple[Envelope, memoryview]:
    """Raises BadInput for what is not one of ours."""
    view = memoryview(data)
    try:
        (size,) = HEAD.unpack_from(view)
        if size > len(view) - HEAD.size:
            raise BadInput(f"an envelope claims {size} bytes of {len(view)}")
        return _envelopes.decode(view[HEAD.size : HEAD.size + size]), view[HEAD.size + size :]
    except (struct.error, msgspec.DecodeError, ValueError, RecursionError) as error:
        raise BadInput(f"not an envelope: {error}") from error
