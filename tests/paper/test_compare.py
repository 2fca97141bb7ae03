"""The comparison's own arithmetic, on rows made by hand; and one point that is really run."""

from benchmarks.paper.compare import POLICIES, Table, must_hold
from benchmarks.paper.settings import LOADS, cpu_speeds, xavier_mesh
from benchmarks.paper.shapes import parts, resnet56
from benchmarks.paper.sweep import Point, Row, Source, capacity_hz, measure

MESH = xavier_mesh([parts(resnet56(), 4)] * 2, cpu_speeds())


def rows(urgent_s: float, others_hz: float, span_s: float = 20.0) -> Table:
    """MS-MDI and AR-MDI answer in 1 s at 10 works a second, all within 20 s; ours in ``urgent_s``, the others at
    ``others_hz``, all within ``span_s``."""
    found = []
    for load in (*LOADS, None):
        for policy in POLICIES:
            ours = policy in ("pa-mdi", "as-if-alone")
            sources = {
                "urgent": Source(urgent_s if ours else 1.0, 1.0, 10.0, 100),
                "other1": Source(1.0, 1.0, others_hz if ours else 10.0, 100),
            }
            found.append(Row(MESH.name, policy, load, 1, False, sources, span_s if ours else 20.0, 1))
    return Table(found)


def test_the_published_cut_holds_only_if_no_source_pays_more_than_five_per_cent() -> None:
    assert rows(0.2, 9.6).cuts(MESH.name, 0.9) == (80.0, 80.0)
    assert must_hold(rows(0.2, 9.6), [MESH])[0]
    assert not must_hold(rows(0.2, 9.4), [MESH])[0]
    assert not must_hold(rows(0.3, 9.6), [MESH])[0]


def test_what_is_kept_over_the_run_is_another_measure_than_until_the_own_last_answer() -> None:
    early, late = (
        rows(0.2, 5.0).cell(MESH.name, None, "as-if-alone"),
        rows(0.2, 10.0, 25.0).cell(MESH.name, None, "pa-mdi"),
    )
    assert (early.least_kept, early.least_kept_of_run) == (0.5, 1.0)
    assert (late.least_kept, round(late.least_kept_of_run, 9)) == (1.0, 0.8)
    assert not must_hold(rows(0.2, 10.0, 25.0), [MESH])[0]


def test_capacity_is_works_over_the_time_until_the_last_answer() -> None:
    assert (
        capacity_hz(
            [Row("s", "ms-mdi", None, 1, False, {"a": Source(1, 1, 1, 100), "b": Source(1, 1, 1, 50)}, 30.0, 1)]
        )
        == 5.0
    )


def test_a_saturated_point_answers_every_work_and_ours_is_quicker_for_the_urgent_source() -> None:
    ours, blind = (measure(Point("m", MESH.fleet, policy, None, 1, works=20)) for policy in ("as-if-alone", "ms-mdi"))
    assert [source.ended for source in (*ours.sources.values(), *blind.sources.values())] == [20] * 4
    assert ours.sources["urgent"].mean_s < blind.sources["urgent"].mean_s
