"""What the UI shows of evaluations and studies fits on a screen."""

from __future__ import annotations

from fall_assets.assets.learning import _in_short
from fall_assets.assets.studies import _trial


def test_a_slice_is_shown_with_its_intervals() -> None:
    row = {
        "role": "candidate", "slice": "all", "value": "all", "falls": 70, "found": 66,
        "sensitivity": 0.943, "sensitivity_low": 0.862, "sensitivity_high": 0.978,
        "false_alarms": 2, "false_alarms_per_camera_day": None, "f1": None,
        "delay_median_s": None,
    }  # fmt: skip
    assert _in_short(row) == {  # type: ignore[arg-type]
        "model": "candidate",
        "slice": "all footage",
        "falls found": "66 of 70",
        "sensitivity": "0.943 (0.862 to 0.978)",
        "false alarms": 2,
        "per camera-day": "unknown",
        "F1": "unknown",
        "median delay (s)": "unknown",
    }


def test_settings_of_a_trial_have_few_digits() -> None:
    row = {
        "trial": 3, "state": "complete", "value": 0.5, "sensitivity": 0.4, "folds": 5,
        "error": None, "params": {"learning_rate": 0.003658592458614746, "network.width": 48},
    }  # fmt: skip
    assert _trial(row)["params"] == "learning_rate 0.00366, network.width 48"
