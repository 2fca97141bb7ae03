"""State machines as data: a literal table, and one function that steps through it.

A :class:`Table` lists, for every state, what each event leads to; the pairs that must not happen are listed too, by
name, so that a reader sees that nobody forgot them. The pictures in ``docs/`` are drawn from these tables.
"""

from typing import Dict, FrozenSet, NamedTuple, Tuple


class IllegalMove(Exception):
    """An event came in a state that refuses it. Nothing has changed."""


class Table(NamedTuple):
    """``moves[state][event]`` is the next state; ``refused`` holds the (state, event) pairs that must not happen."""

    name: str
    initial: str
    states: Tuple[str, ...]
    events: Tuple[str, ...]
    moves: Dict[str, Dict[str, str]]
    refused: FrozenSet[Tuple[str, str]]

    def step(self, state: str, event: str) -> str:
        """The next state. Raises IllegalMove, and changes nothing, for a pair that is refused."""
        following = self.moves.get(state, {}).get(event)
        if following is None:
            raise IllegalMove(f"{self.name}: {event!r} must not happen in state {state!r}")
        return following
