"""Every word of the data sets stands for one label."""

from __future__ import annotations

import csv

import pytest

from fall_assets.datasets import DATASETS
from fall_assets.labelling.taxonomy import nearest_word, to_label
from fall_assets.lake.registry import LABELS
from fall_assets_tests.footage_samples import SAMPLES, needs_samples


@pytest.mark.parametrize("dataset", ["site", *DATASETS])
def test_the_labels_stand_for_themselves(dataset: str) -> None:
    assert [to_label(dataset, label) for label in LABELS] == list(LABELS)


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_word_of_a_data_set_stands_for_a_label(dataset: str) -> None:
    for word, label in DATASETS[dataset].words.items():
        assert label in LABELS
        assert to_label(dataset, f" {word.upper()} ") == label


@pytest.mark.parametrize(
    ("dataset", "word", "label"),
    [
        ("gmdcsa24", "Falling (BW)", "fall"),
        ("gmdcsa24", "Fall (FW)", "fall"),
        ("gmdcsa24", " falling  (sw) ", "fall"),
        ("gmdcsa24", "Sleeping", "lying"),
        ("gmdcsa24", "Reading", "other"),
        ("urfd", "adl_lying", "lying"),
        ("assist_iot", "adl:bending_wo_knees", "bending"),
        ("assist_iot", "upright", "standing"),
        ("people_walking", "adl:people_walk_in_stand_leave", "walking"),
        ("up_fall", "falling forward using knees", "fall"),
        ("up_fall", "picking up an object", "bending"),
        ("le2i", "before the fall", "other"),
        ("caucafall", "nofall", "other"),
        ("omnifall", "fallen", "lying_after_fall"),
        ("site", "Walking", "walking"),
    ],
)
def test_words_of_the_data_sets(dataset: str, word: str, label: str) -> None:
    assert to_label(dataset, word) == label


def test_a_sites_words_are_the_taxonomys_own() -> None:
    assert to_label("site", "Sleeping") is None
    assert to_label("site", "") is None
    assert nearest_word("site", "siting") == "sitting"
    assert nearest_word("site", "qqq") is None


@needs_samples
def test_every_word_of_the_real_label_files_is_known() -> None:
    for dataset in (path.parent.name for path in SAMPLES.glob("*/labels.csv")):
        with (SAMPLES / dataset / "labels.csv").open(encoding="utf-8") as file:
            words = {row["label"] for row in csv.DictReader(file)}
        assert words
        assert [word for word in words if to_label(dataset, word) is None] == []
