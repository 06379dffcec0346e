"""Films made worse, and the table of what is lost."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from fall_assets.learning.events import EventSettings
from fall_assets.learning.metrics import VideoOutcome, outcome
from fall_assets.learning.robustness import DEGRADATIONS, DegradeError, degrade, losses
from fall_assets_tests.footage.films import film
from fall_assets_tests.learning.people import FALL_AT_S, kind_of, learning_set

BY_NAME = {how.name.split(" ")[0]: how for how in DEGRADATIONS}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds at 25 frames per second, 128 x 96."""
    path = tmp_path_factory.mktemp("films") / "source.mp4"
    return film(path, frames=50, fps=25, width=128, height=96, options={"crf": "10"})


def read(path: Path) -> tuple[list[float], npt.NDArray[np.float64]]:
    """Times of the frames from the first, and their values."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    times = [float(frame.time or 0.0) for frame in frames]
    return [t - times[0] for t in times], np.stack(
        [frame.to_ndarray(format="rgb24") for frame in frames]
    ).astype(np.float64)


def made(source: Path, name: str, folder: Path) -> tuple[list[float], npt.NDArray[np.float64]]:
    target = folder / "worse.mp4"
    degrade(source, target, BY_NAME[name])
    return read(target)


def test_to_encode_again_changes_next_to_nothing(source: Path, tmp_path: Path) -> None:
    times, pixels = read(source)
    again, worse = made(source, "encoded", tmp_path)
    assert again == pytest.approx(times, abs=0.0015)
    assert worse.shape == pixels.shape
    assert np.abs(worse - pixels).mean() < 12


def test_half_the_resolution_halves_both_sides(source: Path, tmp_path: Path) -> None:
    times, pixels = made(source, "half", tmp_path)
    assert pixels.shape == (50, 48, 64, 3)
    assert times[-1] == pytest.approx(1.96, abs=0.01)


def test_frames_are_dropped_and_times_stay(source: Path, tmp_path: Path) -> None:
    times, pixels = made(source, "10", tmp_path)
    assert len(pixels) in (20, 21)
    gaps = np.diff(times)
    assert gaps.min() > 0.07
    assert gaps.max() < 0.13
    assert times[-1] > 1.85


def test_less_light_is_darker_and_noise_is_noisier(source: Path, tmp_path: Path) -> None:
    _, plain = made(source, "encoded", tmp_path)
    _, dark = made(source, "darker", tmp_path)
    assert dark.mean() == pytest.approx(plain.mean() / 3, rel=0.1)
    _, noisy = made(source, "noise", tmp_path)
    assert np.abs(noisy - plain).mean() > np.abs(plain - read(source)[1]).mean() + 3


def test_a_low_bit_rate_makes_a_small_file(source: Path, tmp_path: Path) -> None:
    fine, coarse = tmp_path / "fine.mp4", tmp_path / "coarse.mp4"
    degrade(source, fine, BY_NAME["encoded"])
    degrade(source, coarse, BY_NAME["low"])
    assert coarse.stat().st_size < fine.stat().st_size / 3


def test_the_same_seed_makes_the_same_noise(source: Path, tmp_path: Path) -> None:
    one, other, third = (tmp_path / f"{n}.mp4" for n in range(3))
    degrade(source, one, BY_NAME["noise"], seed=1)
    degrade(source, other, BY_NAME["noise"], seed=1)
    degrade(source, third, BY_NAME["noise"], seed=2)
    assert (read(one)[1] == read(other)[1]).all()
    assert (read(one)[1] != read(third)[1]).any()


def test_what_is_no_film_is_refused_by_name(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no film")
    with pytest.raises(DegradeError, match=r"broken\.mp4"):
        degrade(broken, tmp_path / "out.mp4", DEGRADATIONS[0])


def judged(missed: set[int], loud: set[int]) -> list[VideoOutcome]:
    outcomes = []
    for truth in learning_set().reviewed:
        number = int(truth.video_id, 16)
        raised = (kind_of(number) == "fall" and number not in missed) or number in loud
        ends = [1.0 + 0.5 * step for step in range(19)]
        scores = [0.95 if raised and end == FALL_AT_S + 2 else 0.02 for end in ends]
        outcomes.append(outcome(truth.scored(ends, scores), EventSettings(0.5)))
    return outcomes


def test_the_table_tells_what_is_lost_with_its_interval() -> None:
    before = judged(set(), set())
    rows = losses(before, {"noise": judged({0, 3, 6, 9}, {1}), "same": before}, resamples=400)
    as_it_is, noise, same = rows
    assert as_it_is["footage"] == "as recorded"
    assert as_it_is["sensitivity_change"] is None
    assert (noise["found"], noise["falls"], noise["false_alarms"]) == (4, 8, 1)
    assert noise["sensitivity_change"] == -0.5
    low, high = noise["sensitivity_change_low"], noise["sensitivity_change_high"]
    assert isinstance(low, float)
    assert isinstance(high, float)
    assert -1 <= low < -0.5 < high < 0
    assert (same["sensitivity_change"], same["sensitivity_change_low"]) == (0, 0)
    with pytest.raises(ValueError, match="noise"):
        losses(before, {"noise": before[1:]})
