"""What was measured, per source: counts, latencies and throughput. Plain functions over plain values."""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import msgspec

from pamdi.core.work import Visit


class Outcome(NamedTuple):
    """One submitted work: instants in seconds of one clock; ``status`` "" when no end ever came."""

    source: str
    id: str
    submitted_at: float
    ended_at: Optional[float]
    status: str
    reason: str = ""
    exact: bool = False
    correct: bool = False
    uncut_correct: bool = False
    path: Tuple[Visit, ...] = ()
    replayed: int = 0
    retried: int = 0


class SourceFigures(msgspec.Struct, frozen=True):
    """The figures of ``pamdi demo --json`` for one source; seconds and hertz, null where nothing was answered."""

    count: int
    answered: int
    failed: int
    refused: int
    lost: int
    duplicated: int
    redelivered: int
    mean_s: Optional[float]
    p50_s: Optional[float]
    p95_s: Optional[float]
    p99_s: Optional[float]
    throughput_hz: Optional[float]
    inexact: int
    resent: int


def percentile(ordered: Sequence[float], share: float) -> Optional[float]:
    """The smallest value that at least ``share`` of the values do not exceed (nearest rank)."""
    if not ordered:
        return None
    rank = max(1, -(-len(ordered) * round(share * 1000) // 1000))
    return ordered[min(rank, len(ordered)) - 1]


def source_figures(outcomes: List[Outcome], duplicated: int, redelivered: int) -> SourceFigures:
    """``lost``: works that were submitted and for which no end of any kind ever came."""
    answered = [o for o in outcomes if o.status == "answered" and o.ended_at is not None]
    latencies = sorted(o.ended_at - o.submitted_at for o in answered if o.ended_at is not None)
    throughput = None
    if answered:
        span = max(o.ended_at or 0.0 for o in answered) - min(o.submitted_at for o in outcomes)
        throughput = len(answered) / span if span > 0 else None
    return SourceFigures(
        count=len(outcomes),
        answered=len(answered),
        failed=sum(o.status == "failed" for o in outcomes),
        refused=sum(o.status == "refused" for o in outcomes),
        lost=sum(o.status == "" for o in outcomes),
        duplicated=duplicated,
        redelivered=redelivered,
        mean_s=sum(latencies) / len(latencies) if latencies else None,
        p50_s=percentile(latencies, 0.5),
        p95_s=percentile(latencies, 0.95),
        p99_s=percentile(latencies, 0.99),
        throughput_hz=throughput,
        inexact=sum(not o.exact for o in answered),
        resent=sum(o.retried > 0 or o.replayed > 0 for o in outcomes),
    )


def utilisation(outcomes: List[Outcome], heads: Dict[str, str]) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """Shares of the phase's time in which each device computed and each link carried tensors, by the answers' paths."""
    ends = [o.ended_at for o in outcomes if o.ended_at is not None]
    span = max(ends) - min(o.submitted_at for o in outcomes) if ends else 0.0
    devices: Dict[str, float] = {}
    links: Dict[str, float] = {}
    for outcome in outcomes:
        before = heads.get(outcome.source, "")
        for visit in outcome.path:
            devices[visit.device] = devices.get(visit.device, 0.0) + visit.compute_s
            if visit.device != before:
                name = f"{before}->{visit.device}"
                links[name] = links.get(name, 0.0) + visit.transfer_s
            before = visit.device
    return (
        {name: {"utilisation": round(s / span, 4)} for name, s in sorted(devices.items())} if span else {},
        {name: {"utilisation": round(s / span, 4)} for name, s in sorted(links.items())} if span else {},
    )
