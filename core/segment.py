"""An index pair is a type: a contiguous run of a model's units.

A model is cut into *units* ``0 .. U-1`` at its cut points. *Boundary* ``u`` is the cut before unit ``u``: a work at
boundary ``u`` carries the tensors that enter unit ``u``; boundary ``U`` is the model's output. A segment is half
open and counted from zero, like a Python slice, so that segments chain when one's ``stop`` is the next one's
``first``.
"""

import msgspec


class Segment(msgspec.Struct, frozen=True, order=True):
    """Units ``first`` to ``stop - 1`` of ``model``.

    Raises ValueError when the pair is empty, negative or out of order.
    """

    model: str
    first: int
    stop: int

    def __post_init__(self) -> None:
        if not self.model or not 0 <= self.first < self.stop:
            raise ValueError(f"{self.model!r} [{self.first}, {self.stop}) is not a segment: need 0 <= first < stop")

    def __str__(self) -> str:
        return f"{self.model}[{self.first}:{self.stop}]"

    @property
    def name(self) -> str:
        """The stem of the segment's file names: ``0003-0007``."""
        return f"{self.first:04d}-{self.stop:04d}"
