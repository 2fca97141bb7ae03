"""What the last few probes say of a link: the best of them, and beside works everything that left."""

from pamdi.daemon.sightings import Sighting, rate_and_delay

IDLE = Sighting(0.01, 0.11, 100_000, 100_100.0, True)


def test_of_idle_rounds_the_fastest_counts_and_the_smallest_delay() -> None:
    late = Sighting(0.05, 0.9, 100_000, 100_100.0, True)
    assert rate_and_delay([late, IDLE, late]) == (1e6, 0.005)


def test_beside_works_the_rate_is_of_all_that_left() -> None:
    """A tenth of what left was the probe's; the small probe waited behind works, and tells no delay."""
    assert rate_and_delay([Sighting(None, 1.0, 100_000, 1e6, False)]) == (1e6, None)


def test_a_small_probe_that_was_late_makes_no_link_fast() -> None:
    late_small = Sighting(0.1099, 0.11, 100_000, 100_100.0, True)
    assert rate_and_delay([late_small, IDLE]) == (1e6, 0.005)


def test_nothing_is_known_of_nothing() -> None:
    assert rate_and_delay([]) == (None, None)
