from hypothesis import given
from hypothesis import strategies as st

from shoal_lab.faults.delay_line import DelayLine

moments = st.floats(0, 100)


@given(arrivals=st.lists(st.tuples(moments, moments, st.binary(max_size=3)), max_size=20), now=moments)
def test_chunks_leave_in_order_and_never_before_they_are_due(
    arrivals: list[tuple[float, float, bytes]], now: float
) -> None:
    """Also when the latency shrinks on the way: later chunks then wait for earlier ones."""
    line = DelayLine()
    for came, latency, chunk in arrivals:
        line.put(chunk, due=came + latency)
    size = line.size

    left: list[bytes | None] = []
    while line.ready(now=now):
        left.append(line.take())

    assert left == [chunk for _, _, chunk in arrivals][: len(left)]
    assert all(came + latency <= now for came, latency, _ in arrivals[: len(left)])
    if len(left) < len(arrivals):
        assert max(came + latency for came, latency, _ in arrivals[: len(left) + 1]) > now
    assert line.size == size - sum(len(chunk or b"") for chunk in left)


def test_each_chunk_is_late_by_the_latency_and_not_by_that_of_those_before_it() -> None:
    line = DelayLine()
    for moment in (1.0, 1.1, 1.2):
        line.put(b"chunk", due=moment + 0.5)

    assert not line.ready(now=1.49)
    assert [line.ready(now=1.5) and line.take(), line.ready(now=1.5)] == [b"chunk", False]
    assert [line.ready(now=1.7) and line.take() for _ in range(2)] == [b"chunk", b"chunk"]


def test_a_hastened_line_is_due_at_once_and_still_in_order() -> None:
    line = DelayLine()
    line.put(b"first", due=10.0)
    line.put(None, due=20.0)

    line.hasten()

    assert [line.ready(now=0.0) and line.take() for _ in range(2)] == [b"first", None]
    assert not line
