"""Figures of motion, films as frames, weighted scores, and the weights of video networks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fall_assets.errors import PermanentFailureError
from fall_assets.features.extractors.weights import sha256_of
from fall_assets.features.settings import PictureSettings
from fall_assets.learning.algorithms.base import FitContext, MissingInputError, Plan, Scores
from fall_assets.learning.algorithms.ensemble import weighted
from fall_assets.learning.algorithms.examples import (
    Sampling,
    class_chances,
    dense,
    examples_of,
)
from fall_assets.learning.algorithms.films import (
    GREY,
    Film,
    FilmAugmentation,
    FilmSettings,
    FilmStore,
    changed,
    decode_film,
    film_of,
    window_of,
)
from fall_assets.learning.algorithms.motion_boosting import MotionSetError, motion_figures
from fall_assets.learning.algorithms.registry import settings_of
from fall_assets.learning.algorithms.video_network import (
    WEIGHTS_VARIABLE,
    VideoFineTuning,
    VideoModel,
    VideoNetwork,
    VideoSettings,
    VideoWeightsError,
    locate_video_weights,
    read_task,
    write_task,
)
from fall_assets.learning.dataset import training_windows
from fall_assets.learning.inputs import SegmentInputs, Stretch
from fall_assets.learning.windows import WindowSettings
from fall_assets_tests.features.clips import plain, write_clip
from fall_assets_tests.learning.algorithms.drawn import every_segment, small_set, with_films

FILM = FilmSettings(8, 4.0, PictureSettings(long_side=32))
TINY = {
    "network": "tiny",
    "weights": "random",
    "frames": 8,
    "picture": {"long_side": 32},
    "steps": 30,
    "batch": 8,
    "learning_rate": 4e-3,
    "body_rate": 1.0,
    "average": 0.5,
    "threads": 1,
}


# Examples and samples.


def test_falls_weigh_the_same_as_they_do_for_poses() -> None:
    people = small_set()
    examples, windows = examples_of(people), training_windows(people)
    assert len(examples) == len(windows)
    # The same clips in the same order: one person in each segment.
    np.testing.assert_array_equal(examples.target, windows.target)
    np.testing.assert_allclose(examples.weight, windows.weight, rtol=1e-6)
    assert set(examples.fold[examples.of(Plan(0, frozenset({1})))].tolist()) == {1}
    assert len(examples.of(Plan(0))) == len(examples)


def test_falls_are_drawn_as_often_as_asked() -> None:
    target, weight = np.array([1, 0, 0, 0]), np.array([1.0, 1.0, 2.0, 1.0])
    np.testing.assert_allclose(class_chances(target, weight, 0.4), [0.4, 0.15, 0.3, 0.15])


def test_samples_lie_where_they_were_taken() -> None:
    values = np.arange(12, dtype=np.float32).reshape(6, 2)
    values[1] = np.nan  # no picture
    stretches = (Stretch(0.5, 10.0, values[:3]), Stretch(1.0, 10.0, values[3:]))
    found = dense(SegmentInputs("v", 2.0, stretches=stretches), Sampling(10.0, 2), "motion")
    assert np.flatnonzero(found.seen).tolist() == [5, 7, 10, 11, 12]
    window, seen = found.window(1.2, 10)
    assert window[-1].tolist() == [8, 9]
    assert seen.tolist() == [False] * 3 + [True, False, True, False, False, True, True]
    early, seen = found.window(0.3, 10)
    assert not seen.any()
    assert not early.any()


def test_figures_of_motion_say_what_sinks_and_when() -> None:
    values = np.zeros((2, 8, 9), np.float32)
    values[..., 0] = 0.2
    values[0, :, 2] = np.linspace(0.3, 0.9, 8)
    values[1, :, 2] = 0.5
    seen = np.ones((2, 8), bool)
    seen[1, :2] = False
    figures = motion_figures(values, seen)
    assert figures.shape == (2, 7 * 9 + 8)
    share, sunk = figures[:, -4], figures[:, -3]
    assert share.tolist() == [1.0, 0.75]
    assert sunk[0] == pytest.approx(0.9 - 0.3 - 0.6 / 7, abs=1e-5)
    assert sunk[1] == 0
    first_quarter = figures[:, 3 * 9 : 4 * 9]
    assert np.isfinite(first_quarter[0]).all()
    assert np.isnan(first_quarter[1]).all()
    np.testing.assert_array_equal(motion_figures(values[1:], seen[1:]), figures[1:])


def test_embeddings_are_no_motion_when_they_are_too_narrow() -> None:
    with pytest.raises(MotionSetError, match="'motion'"):
        motion_figures(np.zeros((1, 4, 5), np.float32), np.ones((1, 4), bool))


# Films.


def test_a_window_ends_before_its_end(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", [plain(10 * n + 20) for n in range(20)], fps=10.0)
    pictures = decode_film(Film(path, 2.0), FILM)
    assert pictures.shape == (5, 32, 32, 3)
    shades = pictures[:, 16, 16, 0].astype(int)
    np.testing.assert_allclose(shades[:4], [20, 70, 120, 170], atol=4)
    window = window_of(pictures, 1.0, FILM)
    np.testing.assert_allclose(window[-2:, 16, 16, 0], [20, 70], atol=4)
    assert (window[:-2] == GREY).all()
    # Beside a wide picture in a square nothing is shown.
    assert (pictures[:, 0] == GREY).all()


def test_nothing_outside_of_the_cameras_crop_is_seen(tmp_path: Path) -> None:
    picture = plain(40, 128, 128)
    picture[:, 64:] = 220
    path = write_clip(tmp_path / "a.mp4", [picture] * 10)
    right = decode_film(Film(path, 1.0, "0.5,0,1,1"), FILM)
    assert right[0].max() > 200
    left = decode_film(Film(path, 1.0, "0,0,0.45,1"), FILM)
    assert left[0].max() == GREY
    segment = SegmentInputs("v", 1.0, path=path, crop="0,0,0.45,1")
    assert film_of(segment) == Film(path, 1.0, "0,0,0.45,1")


def test_a_store_decodes_once_and_leaves_nothing(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", [plain(90) for _ in range(10)])
    with FilmStore(FILM) as store, FilmStore(FILM) as other:
        pictures = store.add(0, Film(path, 1.0))
        np.testing.assert_array_equal(pictures, decode_film(Film(path, 1.0), FILM))
        place = store.place(0)
        path.unlink()
        np.testing.assert_array_equal(other.add(0, Film(place, 1.0)), pictures)
        assert place.is_file()
    assert not place.exists()


def test_changed_windows_stay_films() -> None:
    window = np.zeros((4, 16, 16, 3), np.uint8)
    window[:, :, :8] = 200
    same = FilmAugmentation(mirror=0, zoom=0, brightness=0, contrast=0)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(changed(window, same, rng), window)
    mirrored = changed(window, replace(same, mirror=1), rng)
    np.testing.assert_array_equal(mirrored, window[:, :, ::-1])
    other = changed(window, FilmAugmentation(), rng)
    assert other.shape == window.shape
    assert not np.array_equal(other, window)
    assert (other == other[:1]).all()


# Scores together.


def _scores(*values: float, track: int | None = None) -> Scores:
    return Scores(np.arange(len(values), dtype=float), np.array(values), (track,) * len(values))


def test_scores_are_weighed_in_log_odds() -> None:
    one, other = _scores(0.9, 0.0, 0.0, track=4), _scores(0.1, 1.0, 0.0)
    assert weighted([one, other], (1, 1), 0.01).score[0] == pytest.approx(0.5)
    heavier = weighted([one, other], (3, 1), 0.01)
    assert heavier.score[0] == pytest.approx(0.75)
    # Neither a 0 nor a 1 decides alone.
    assert weighted([one, other], (1, 1), 0.01).score[1] == pytest.approx(0.5)
    assert heavier.track == (4, 4, 4)
    nobody = weighted([_scores(0.0), _scores(0.0)], (1, 1), 0.01)
    assert nobody.score.tolist() == [0.0]
    with pytest.raises(ValueError, match="different windows"):
        weighted([one, _scores(0.5)], (1, 1), 0.01)


# Video networks.


def _video(**values: object) -> VideoSettings:
    settings = settings_of("video-network", {**TINY, **values})
    assert isinstance(settings, VideoSettings)
    return settings


def test_weights_are_found_by_their_hash_and_nothing_else_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = VideoNetwork("r3d_18")
    body = {f"{k}": v + 0.5 for k, v in network.body.state_dict().items() if "fc" not in k}
    body |= {"fc.weight": torch.zeros(400, 512), "fc.bias": torch.zeros(400)}
    path = tmp_path / "own.pth"
    torch.save(body, path)
    settings = VideoSettings(weights=sha256_of(path))
    with pytest.raises(VideoWeightsError, match=WEIGHTS_VARIABLE):
        locate_video_weights(settings)
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path))
    assert locate_video_weights(settings) == path
    with pytest.raises(VideoWeightsError, match="SHA-256"):
        locate_video_weights(replace(settings, weights="0" * 64))
    loaded = VideoNetwork("r3d_18", path)
    kept = loaded.body.get_submodule("stem").state_dict()["0.weight"]
    torch.testing.assert_close(kept, body["stem.0.weight"])
    assert loaded.body.get_submodule("fc").state_dict()["weight"].shape == (1, 512)
    groups = loaded.groups(0.2)
    assert sum(len(group.weights) for group in groups) == len(list(loaded.parameters()))
    assert [len(group.weights) for group in loaded.groups(0.0)] == [2]
    torch.save({"nothing": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(VideoWeightsError, match="does not hold"):
        VideoNetwork("r3d_18", tmp_path / "other.pth")
    torch.save({"a": Path("x")}, tmp_path / "pickled.pth")
    with pytest.raises(PermanentFailureError, match="tensors only"):
        VideoNetwork("r3d_18", tmp_path / "pickled.pth")


def test_weights_that_torchvision_has_not_are_refused() -> None:
    with pytest.raises(VideoWeightsError, match="KINETICS400_V1"):
        locate_video_weights(VideoSettings(weights="IMAGENET1K_V1"))
    assert locate_video_weights(_video()) is None


def test_a_real_network_takes_frames() -> None:
    network = VideoNetwork("r3d_18").eval()
    shown = torch.randint(0, 255, (2, 4, 32, 32, 3), dtype=torch.uint8)
    with torch.inference_mode():
        assert network(shown).shape == (2,)


def test_a_film_that_is_gone_is_named(tmp_path: Path) -> None:
    model = VideoModel(_video(), VideoNetwork("tiny"), WindowSettings())
    segment = SegmentInputs("v1", 4.0, path=tmp_path / "gone.mp4")
    with pytest.raises(MissingInputError, match=r"v1 is not at .*gone\.mp4"):
        model.scores(segment)


def test_a_task_survives_as_files(tmp_path: Path) -> None:
    people = with_films(small_set(9), tmp_path)
    (task,) = VideoFineTuning(_video()).tasks(people, [Plan(3)], FitContext())
    folder = tmp_path / "task"
    folder.mkdir()
    write_task(task, folder)
    assert read_task(folder) == task
    assert json.loads((folder / "task.json").read_text())["seed"] == 3


def test_two_processes_train_the_same_network_as_one(tmp_path: Path) -> None:
    people = with_films(small_set(9), tmp_path)
    context = FitContext(device="cpu")
    scores = []
    for processes in (1, 2):
        algorithm = VideoFineTuning(_video(processes=processes))
        (model,) = algorithm.fit(people, [Plan(3)], context)
        scores.append(np.concatenate([model.scores(s).score for s in every_segment(people)]))
        assert algorithm.feeding.batches == 30
        assert 0 <= algorithm.feeding.waiting_share < 1
    np.testing.assert_allclose(scores[0], scores[1], atol=2e-3)
    assert scores[0].std() > 0.01
