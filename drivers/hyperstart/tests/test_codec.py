import itertools
import re
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vc_agent_hyperstart.codec import (
    CONTROL,
    STREAM,
    Code,
    FrameDecoder,
    FrameFormat,
    StreamControl,
    StreamControlType,
    SyncScanner,
    sync_marker,
)
from vc_core.errors import AgentProtocolError

FORMATS = [CONTROL, STREAM]

GUEST = Path(__file__).parents[1] / "guest"


def chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def decode(frame_format: FrameFormat, pieces: list[bytes]) -> tuple[list[tuple[int, bytes]], str | None]:
    """Return the frames, and the text of the error that ended them."""
    frames: list[tuple[int, bytes]] = []
    decoder = FrameDecoder(frame_format, lambda key, payload: frames.append((key, payload)))
    try:
        for piece in pieces:
            decoder.feed(piece)
    except AgentProtocolError as error:
        return frames, str(error)
    return frames, None


frames_strategy = st.lists(st.tuples(st.integers(0, 2**32 - 1), st.binary(max_size=300)), max_size=8)
cuts_strategy = st.lists(st.integers(0, 10**6), max_size=40)


@pytest.mark.parametrize("frame_format", FORMATS, ids=lambda f: f.name)
@given(frames=frames_strategy, cuts=cuts_strategy)
def test_frames_come_out_as_they_went_in_however_the_bytes_are_cut(
    frame_format: FrameFormat, frames: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    data = b"".join(frame_format.encode(key, payload) for key, payload in frames)
    assert decode(frame_format, chunks(data, cuts)) == (frames, None)


@pytest.mark.parametrize("frame_format", FORMATS, ids=lambda f: f.name)
@given(data=st.binary(max_size=400), cuts=cuts_strategy)
def test_any_bytes_give_the_same_frames_and_the_same_error_however_they_are_cut(
    frame_format: FrameFormat, data: bytes, cuts: list[int]
) -> None:
    assert decode(frame_format, chunks(data, cuts)) == decode(frame_format, [data])


#: Bytes that look like frames, and such with a header that lies about what follows.
headers = st.builds(
    lambda key, length, rest: (key, length, rest),
    st.integers(0, 2**32 - 1),
    st.one_of(st.integers(0, 64), st.integers(0, 2**32 - 1), st.sampled_from([65536, 65537, 2**20, 2**20 + 1])),
    st.binary(max_size=64),
)


@pytest.mark.parametrize("frame_format", FORMATS, ids=lambda f: f.name)
@given(lies=st.lists(headers, max_size=6), filler=st.integers(0, 3), cuts=cuts_strategy)
def test_garbage_raises_nothing_but_a_protocol_error_and_no_more_than_a_frame_is_kept(
    frame_format: FrameFormat, lies: list[tuple[int, int, bytes]], filler: int, cuts: list[int]
) -> None:
    data = b"".join(frame_format.header.pack(key, length) + rest for key, length, rest in lies)
    data += bytes([255]) * (filler * frame_format.limit // 2)
    decoder = FrameDecoder(frame_format, lambda key, payload: None)
    failed = False
    for piece in chunks(data, cuts):
        try:
            decoder.feed(piece)
            assert not failed, "a decoder that failed stays failed"
        except AgentProtocolError:
            failed = True
        assert decoder.kept < frame_format.limit


@pytest.mark.parametrize("frame_format", FORMATS, ids=lambda f: f.name)
@pytest.mark.parametrize("length", [0, 4, 7, "header - 1", "limit + 1", 2**31, 2**32 - 1])
def test_a_length_that_no_frame_can_have_fails_the_decoder_for_good(
    frame_format: FrameFormat, length: int | str
) -> None:
    if isinstance(length, str):
        length = {"header - 1": frame_format.header.size - 1, "limit + 1": frame_format.limit + 1}[length]
    decoder = FrameDecoder(frame_format, lambda key, payload: pytest.fail("there is no frame"))
    with pytest.raises(AgentProtocolError, match=f"length {length};"):
        decoder.feed(frame_format.header.pack(1, length))
    with pytest.raises(AgentProtocolError, match=f"length {length};"):
        decoder.feed(frame_format.encode(1))


@pytest.mark.parametrize("frame_format", FORMATS, ids=lambda f: f.name)
def test_the_longest_and_the_shortest_frame_are_accepted(frame_format: FrameFormat) -> None:
    longest = bytes(frame_format.limit - frame_format.header.size)
    data = frame_format.encode(1, longest) + frame_format.encode(2)
    assert decode(frame_format, [data]) == ([(1, longest), (2, b"")], None)


@pytest.mark.parametrize("frame_format", FORMATS, ids=lambda f: f.name)
def test_frames_before_a_bad_one_are_delivered(frame_format: FrameFormat) -> None:
    frames, error = decode(frame_format, [frame_format.encode(7, b"good") + frame_format.header.pack(1, 3)])
    assert frames == [(7, b"good")]
    assert error is not None


def test_a_long_frame_in_single_bytes_is_parsed_without_looking_at_it_again_and_again() -> None:
    """16 times the bytes may cost 16 times the work, not 256 times: counted in bytes copied, not in time."""
    parsed = 0

    class Counting(FrameDecoder):
        def _parse(self, view: memoryview, header: Any) -> Any:
            nonlocal parsed
            parsed += 1
            return super()._parse(view, header)

    frames = []
    decoder = Counting(CONTROL, lambda key, payload: frames.append(payload))
    frame = CONTROL.encode(1, bytes(100_000))
    for position in range(len(frame)):
        decoder.feed(frame[position : position + 1])
    assert frames == [bytes(100_000)]
    assert parsed == len(frame)


@given(kind=st.sampled_from(StreamControlType), stream=st.integers(0, 2**64 - 1), value=st.integers(0, 2**64 - 1))
def test_a_stream_control_frame_is_decoded_to_what_was_encoded(
    kind: StreamControlType, stream: int, value: int
) -> None:
    control = StreamControl(kind, stream, value)
    ((sequence, payload),), error = decode(STREAM, [control.encode()])
    assert (sequence, error) == (0, None)
    assert StreamControl.decode(payload) == control


@pytest.mark.parametrize(
    "payload", [b"", bytes(16), bytes(18), struct.pack(">BQQ", 0, 1, 1), struct.pack(">BQQ", 9, 1, 1)]
)
def test_a_stream_control_frame_of_another_size_or_type_is_refused(payload: bytes) -> None:
    with pytest.raises(AgentProtocolError):
        StreamControl.decode(payload)


@given(before=st.binary(max_size=200), after=st.binary(max_size=50), cuts=cuts_strategy)
def test_the_scanner_finds_the_marker_at_any_position_and_returns_what_follows(
    before: bytes, after: bytes, cuts: list[int]
) -> None:
    marker = sync_marker(bytes(range(16)))
    scanner, rest = SyncScanner(marker), None
    for piece in chunks(before + marker[:20] + marker + after, cuts):
        if rest is None:
            rest = scanner.feed(piece)
        else:
            rest += piece
    assert rest == after


def test_a_marker_is_another_one_at_each_takeover() -> None:
    token = bytes(16)
    first, second = sync_marker(token), sync_marker(token)
    assert first != second
    assert first[:25] == second[:25]
    assert len(first) == 33


def enumerated(member: str) -> dict[str, int]:
    """Return the one enumeration in the guest agent's C that has this member."""
    sources = [path.read_text(encoding="utf-8") for path in sorted(GUEST.glob("*.[ch]"))]
    bodies = [body for text in sources for body in re.findall(r"^enum \w+ \{(.*?)\};", text, re.DOTALL | re.MULTILINE)]
    (found,) = [values for body in bodies if member in (values := dict(re.findall(r"(\w+) = (\d+)", body)))]
    return {name: int(value) for name, value in found.items()}


def test_the_codes_of_the_guest_agent_are_those_of_the_host() -> None:
    unused = {"STOPPOD", "RESTARTCONTAINER", "CMDFINISHED"}
    assert enumerated("GETVERSION") == {code.name: code.value for code in Code if code.name not in unused}


def test_the_stream_controls_of_the_guest_agent_are_those_of_the_host() -> None:
    assert enumerated("CREDIT") == {kind.name: kind.value for kind in StreamControlType}
