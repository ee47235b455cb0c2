"""A restore, whose data goes by COPY, run again on a clone."""

from tests.rerun import workloads
from tests.rerun.stand import Stand


def test_a_restore(stand: Stand) -> None:
    """All statements go as they had, with the data on record, and both databases dump the same."""
    said = workloads.restore(stand, rows=2_000, jobs=2)
    assert said["differences"] == []
    assert said["lost"] == []
    one, other = stand.dumps()
    assert one == other
    assert "\nCOPY public.big " in one
