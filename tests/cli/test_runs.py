"""What follows one another at one place reads as one; a gap, a repetition or another place does not."""

from pamdi.cli.runs import Run, runs


def test_neighbours_at_one_place_are_joined_and_others_are_not() -> None:
    visits = [("d0", 0, 1), ("d0", 1, 3), ("d1", 3, 4), ("d0", 4, 5), ("d0", 6, 7), ("d0", 6, 7)]
    assert [str(run) for run in runs(visits)] == ["d0[0:3]", "d1[3:4]", "d0[4:5]", "d0[6:7]", "d0[6:7]"]
    assert runs(visits)[0] == Run("d0", 0, 3, 2)
    assert runs([]) == []
