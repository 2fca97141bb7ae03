"""State machines: every (state, event) pair is listed or refused by name, and a refused one changes nothing."""

import pytest

from pamdi.core.device_life import DEVICE
from pamdi.core.slot_life import SLOT
from pamdi.core.table import IllegalMove, Table
from pamdi.core.work_life import WORK

TABLES = [SLOT, WORK, DEVICE]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_pair_is_listed_or_refused_and_never_both(table: Table) -> None:
    pairs = {(state, event) for state in table.states for event in table.events}
    listed = {(state, event) for state, moves in table.moves.items() for event in moves}
    assert listed | table.refused == pairs
    assert not listed & table.refused


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_state_is_reachable(table: Table) -> None:
    reached = {table.initial}
    for _ in table.states:
        reached |= {table.moves[s][e] for s in reached if s in table.moves for e in table.moves[s]}
    assert reached == set(table.states)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_refused_event_raises_by_name(table: Table) -> None:
    for state, event in table.refused:
        with pytest.raises(IllegalMove, match=f"{event}.*{state}"):
            table.step(state, event)
