"""The box's clock of a stream is the platform's clock of the file, to the last bit."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from fall_assets.edge.stream_clock import StreamClock
from fall_assets.features.sampling import SampleClock

BASES = [Fraction(1, 30000), Fraction(1, 90000), Fraction(1, 12800), Fraction(1001, 30000)]


@given(st.sampled_from(BASES), st.lists(st.integers(1, 5000), min_size=1, max_size=200))
def test_frames_are_where_the_platform_has_them(base: Fraction, steps: list[int]) -> None:
    clock, stamp, last_s = StreamClock(base, 0.04), 0, None
    for step in [0, *steps]:
        stamp += step
        clock.of_packet(stamp)
        last_s, _ = clock.of_frame(stamp, last_s)
        assert last_s == float(stamp * base)


def test_a_frame_on_the_border_serves_the_sample_that_it_serves_on_the_platform() -> None:
    # 0.1 ms before the sample at 0.4 s: rounded otherwise it would serve that one.
    base, stamp = Fraction(1, 30000), 11_997
    assert stamp * float(base) != float(stamp * base)
    clock = StreamClock(base, 0.04)
    clock.of_packet(0)
    clock.of_frame(0, None)
    clock.of_packet(stamp)
    time_s, _ = clock.of_frame(stamp, 0.0)
    served, theirs = SampleClock(10.0, 0.25), SampleClock(10.0, 0.25)
    assert served.serve(time_s) == theirs.serve(float(stamp * base))
