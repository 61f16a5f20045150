from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal_lab.faults.kafka_frames import FRAME_LIMIT, Frames
from shoal_lab.faults.wire import UnreadableError

HEAD = 4

frames = st.lists(st.binary(min_size=HEAD, max_size=60), max_size=12)
cuts = st.lists(st.integers(0, 800), max_size=30)


def framed(*payloads: bytes) -> bytes:
    return b"".join(len(payload).to_bytes(4, "big") + payload for payload in payloads)


def pieces(data: bytes, at: list[int]) -> list[bytes]:
    """*data* cut at these places, empty pieces included."""
    places = [0, *sorted(min(place, len(data)) for place in at), len(data)]
    return [data[begin:end] for begin, end in pairwise(places)]


@given(payloads=frames, at=cuts)
def test_frames_pass_unchanged_and_each_wanted_one_is_seen_whole_however_the_bytes_come(
    payloads: list[bytes], at: list[int]
) -> None:
    seen: list[bytes] = []

    def keep(frame: bytes) -> bytes:
        seen.append(frame)
        return frame

    splitter = Frames(head=HEAD, wants=lambda head: head[0] % 2 == 0, on_frame=keep)
    passed = b"".join(splitter.feed(piece) for piece in pieces(framed(*payloads), at))

    assert passed == framed(*payloads)
    assert seen == [payload for payload in payloads if payload[0] % 2 == 0]
    assert splitter.rest() == b""


@given(payloads=frames, at=cuts)
def test_a_replaced_frame_takes_the_place_of_the_old_one_with_its_own_size(
    payloads: list[bytes], at: list[int]
) -> None:
    splitter = Frames(head=HEAD, wants=lambda head: head[0] % 2 == 0, on_frame=lambda frame: frame + b" and more")
    passed = b"".join(splitter.feed(piece) for piece in pieces(framed(*payloads), at))

    assert passed == framed(*(frame + b" and more" * (frame[0] % 2 == 0) for frame in payloads))


def test_a_frame_nobody_wants_passes_as_it_comes() -> None:
    """A large message is not collected first."""
    splitter = Frames(head=HEAD, wants=lambda head: False)
    data = framed(b"x" * 1000)

    assert splitter.feed(data[:6]) == b""  # it is not known yet whether it is wanted
    assert splitter.feed(data[6:500]) == data[:500]


def test_the_beginning_of_a_frame_can_be_had_when_no_more_will_come() -> None:
    splitter = Frames(head=HEAD, wants=lambda head: False)
    splitter.feed(b"\0\0")

    assert splitter.rest() == b"\0\0"


@pytest.mark.parametrize("size", [-1, -(2**31), 0, HEAD - 1, FRAME_LIMIT + 1, 2**31 - 1])
def test_a_size_that_cannot_be_is_refused_as_soon_as_it_is_read(size: int) -> None:
    splitter = Frames(head=HEAD, wants=lambda head: True)
    splitter.feed(framed(b"fine"))

    with pytest.raises(UnreadableError, match=f"a Kafka frame of {size} bytes"):
        splitter.feed(size.to_bytes(4, "big", signed=True))


def test_the_largest_frame_is_taken() -> None:
    splitter = Frames(head=HEAD, wants=lambda head: False)

    assert splitter.feed(FRAME_LIMIT.to_bytes(4, "big") + b"head")
