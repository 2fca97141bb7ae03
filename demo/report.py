"""What a run says at its end: the JSON document, the table, and what the table means in words."""

import shutil
from typing import Any, Dict, List, NamedTuple, Optional

import msgspec

from pamdi.client.figures import Outcome, SourceFigures, source_figures, utilisation
from pamdi.demo.view import final_table, print_table

ALONE = "alone"
DOCK = "dock joins after a quarter of the run, at a lower rate"
WIDE = 100  # columns of a terminal that has room to spare
MEANING = {
    ALONE: "gate, the urgent source, with the fleet to itself",
    "pa-mdi": "gate goes first, yard and dock share what is left",
    "as-if-alone": "gate goes first, and should hardly notice the others",
    "ms-mdi": "the same arrivals without priorities",
}


class Phase(NamedTuple):
    """The load under one policy; ``outcomes`` and ``figures`` by source. ``kills``: device, at_s, down_s."""

    name: str
    outcomes: Dict[str, List[Outcome]]
    figures: Dict[str, SourceFigures]
    kills: List[Dict[str, Any]]


def phase_of(
    name: str,
    outcomes: Dict[str, List[Outcome]],
    duplicated: Dict[str, int],
    redelivered: Dict[str, int],
    kills: List[Dict[str, Any]],
) -> Phase:
    figures = {
        source: source_figures(ends, duplicated.get(source, 0), redelivered.get(source, 0))
        for source, ends in outcomes.items()
    }
    return Phase(name, outcomes, figures, kills)


def document_of(phases: List[Phase], heads: Dict[str, str]) -> Dict[str, Any]:
    """The document of ``pamdi demo --json``. Both accuracies are of the same answered works."""
    answers = [
        o for phase in phases for outcomes in phase.outcomes.values() for o in outcomes if o.status == "answered"
    ]
    policies = {}
    for phase in phases:
        every = [outcome for outcomes in phase.outcomes.values() for outcome in outcomes]
        devices, links = utilisation(every, heads)
        sources = {source: msgspec.to_builtins(figures) for source, figures in phase.figures.items()}
        policies[phase.name] = {"sources": sources, "devices": devices, "links": links}
    return {
        "policies": policies,
        "accuracy": sum(o.correct for o in answers) / len(answers) if answers else None,
        "accuracy_uncut": sum(o.uncut_correct for o in answers) / len(answers) if answers else None,
        "answers_bit_equal": sum(o.exact for o in answers),
        "answers": len(answers),
        "kills": [dict(kill, policy=phase.name) for phase in phases for kill in phase.kills],
    }


def is_clean(phases: List[Phase]) -> bool:
    """Whether every work was answered, once, with the uncut model's bits."""
    return all(
        f.lost == f.duplicated == f.inexact == f.failed == f.refused == 0 for p in phases for f in p.figures.values()
    )


def print_report(phases: List[Phase], document: Dict[str, Any], emulated: str) -> None:
    rows = [(phase.name, source, figures) for phase in phases for source, figures in phase.figures.items()]
    meanings = [f"{phase.name}: {MEANING[phase.name]}" for phase in phases if phase.name in MEANING]
    gap = 2 if shutil.get_terminal_size((WIDE, 24)).columns >= WIDE else 1
    print_table(final_table(rows, "\n".join([*meanings, DOCK, f"emulated: {emulated}", ""]), gap))
    lines = [*ratio_lines({phase.name: phase.figures for phase in phases}), accuracy_line(document)]
    for line in [*lines, *kill_lines(phases)]:
        print(line)


def accuracy_line(document: Dict[str, Any]) -> str:
    if not document["answers"]:
        return "nothing was answered: there is no accuracy"
    return (
        f"accuracy on the digits through the fleet {document['accuracy']:.4f}, of the uncut model on the same images "
        f"{document['accuracy_uncut']:.4f}; {document['answers_bit_equal']} of {document['answers']} answers are bit "
        "for bit the uncut model's"
    )


def kill_lines(phases: List[Phase]) -> List[str]:
    lines = []
    for phase in phases:
        for kill in phase.kills:
            resent = sum(f.resent for f in phase.figures.values())
            works = "1 work was" if resent == 1 else f"{resent} works were"
            lost = sum(f.lost for f in phase.figures.values())
            lines.append(
                f"{phase.name}: {kill['device']} was killed (SIGKILL) after {kill['at_s']:.1f} s and was away for "
                f"{kill['down_s']:.1f} s; {works} handed on again or replayed, {lost} lost"
            )
    return lines


def ratio_lines(figures: Dict[str, Dict[str, SourceFigures]]) -> List[str]:
    """The point of it all, in words; what was not measured is left out."""
    ours, plain = figures.get("pa-mdi", {}), figures.get("ms-mdi", {})
    lines = []
    alone = _ratio(_mean(ours, "gate"), _mean(figures.get(ALONE, {}), "gate"))
    if alone is not None:
        lines.append(f"gate, the urgent source, takes {alone:.2f} x what it takes alone on the fleet")
    unordered = _ratio(_mean(ours, "gate"), _mean(plain, "gate"))
    if unordered is not None:
        lines.append(f"gate takes {unordered:.2f} x what it takes without priorities (ms-mdi)")
    for source in ours:
        kept = _ratio(ours[source].throughput_hz, plain[source].throughput_hz if source in plain else None)
        if source != "gate" and kept is not None:
            lines.append(f"{source}, a normal source, keeps {kept:.2f} x the throughput it has without priorities")
    return lines


def _mean(figures: Dict[str, SourceFigures], source: str) -> Optional[float]:
    return figures[source].mean_s if source in figures else None


def _ratio(ours: Optional[float], other: Optional[float]) -> Optional[float]:
    return ours / other if ours is not None and other else None
