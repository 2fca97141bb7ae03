"""A question and its answer: all that a plan is made from, and the plan.

Both are plain values that can be written down, since a large fleet's question is answered twice: at once, in the
controller's tick, by what is quickly found; then by a search of some seconds in a process of its own (``beside``). What
that finds is held against the first plan, which is in force by then: engines move only where ``worth`` says so, and
other routes are told only where they gain enough.
"""

from typing import Dict, FrozenSet, Optional

import msgspec

from pamdi.controller.allocation import ROUTED, Outcome, allocate_what_fits, units_of
from pamdi.controller.fleet import Fleet, Unit
from pamdi.controller.solver.live import too_large
from pamdi.controller.solver.moving import Terms
from pamdi.controller.worth import Weighed, weigh, worth_telling
from pamdi.core.allocation import Plan


class Question(msgspec.Struct, frozen=True, eq=False):
    """``held``: what stays where it is if it can, and the routes as they are; ``in_force``: the plan that is.
    ``afresh``: a plan from the beginning may be worth its moves; ``beside``: there is time for a search."""

    fleet: Fleet
    held: Plan
    in_force: Optional[Plan]
    drained: FrozenSet[str]
    frozen: FrozenSet[str]
    unable: Dict[str, FrozenSet[Unit]]
    policy: str
    residents: str
    solver: str
    moving: Terms
    afresh: bool
    beside: bool = False


class Answer(msgspec.Struct, frozen=True):
    """``weighed``: where a plan from the beginning was looked at."""

    outcome: Outcome
    weighed: Optional[Weighed] = None


def answer(question: Question) -> Answer:
    stay = _allocate(question, question.held)
    if question.beside and question.in_force is not None:
        moves = units_of(stay.plan) != units_of(question.in_force)
        if not moves and not worth_telling(question.fleet, question.in_force, stay.plan):
            stay = stay._replace(plan=question.in_force)
    if not question.afresh or (searched_beside(question) and not question.beside):
        return Answer(stay)
    afresh, held = _allocate(question, None), units_of(question.held)
    return Answer(*weigh(question.fleet, question.in_force, held, stay, afresh, question.moving))


def searched_beside(question: Question) -> bool:
    """Whether it is to be asked again with time to search."""
    return too_large(question.fleet) and question.solver != "first" and question.policy not in ROUTED


def again(question: Question, first: Plan, afresh: bool) -> Question:
    """The same with time to search, now that ``first`` is in force."""
    return msgspec.structs.replace(question, held=first, in_force=first, afresh=afresh, beside=True)


def _allocate(question: Question, previous: Optional[Plan]) -> Outcome:
    return allocate_what_fits(
        question.fleet,
        previous=previous,
        drained=question.drained,
        frozen=question.frozen,
        unable=question.unable,
        policy=question.policy,
        residents=question.residents,
        solver=question.solver,
        thorough=question.beside,
    )
