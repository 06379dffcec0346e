"""`fall-assets labels`: what the label files say and what was left out.

What belongs here: arguments and printing. What does not: reading (`fall_assets.labelling`).
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fall_assets.site import site_from_environment

if TYPE_CHECKING:
    import polars as pl

    from fall_assets.pipeline.work import Work

_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@click.group()
def labels() -> None:
    """Labels, and the files they come from."""


@labels.command()
@click.option("--footage", type=_FOLDER, help="Read this folder; nothing is kept.")
def report(footage: Path | None) -> None:
    """Count labels per data set, and list every line that was left out.

    Without --footage, as the site's lake has them; with it, straight from a folder, whose videos
    are looked into once and forgotten.
    """
    with _work(footage) as work:
        videos = work.lake.read("videos", columns=["video_id", "dataset"])
        read = work.lake.read("labels", columns=["video_id", "label"])
        problems = work.lake.read("label_problems")
    for line in report_lines(videos, read, problems):
        click.echo(line)


@labels.command()
@click.option("--footage", type=_FOLDER, help="Look into this folder, not the site's.")
def files(footage: Path | None) -> None:
    """List the label files and what reads each."""
    from fall_assets.labelling.files import label_files

    landing = footage or site_from_environment().landing
    found = label_files(landing)
    if not found:
        click.echo(f"no label files below {landing}; docs/footage.md shows where they lie")
    for path in found:
        click.echo(f"{path.relative_to(landing).as_posix()}: {importer_of(landing, path)}")


def report_lines(
    videos: pl.DataFrame, labels: pl.DataFrame, problems: pl.DataFrame
) -> Iterator[str]:
    """The report, line by line.

    Args:
        videos: columns video_id and dataset of the table `videos`.
        labels: columns video_id and label of the table `labels`.
        problems: the table `label_problems`.
    """
    from fall_assets.lake.registry import LABELS

    dataset_of = dict(videos.select("video_id", "dataset").iter_rows())
    counts = Counter(
        (label, dataset_of.get(video, "?"))
        for video, label in labels.select("video_id", "label").iter_rows()
    )
    datasets = sorted({*dataset_of.values(), *(dataset for _label, dataset in counts)})
    labelled = Counter(dataset_of.get(video, "?") for video in labels["video_id"].unique())
    of_dataset = Counter(dataset_of.values())
    rows = [
        ["", *datasets, "all"],
        *([label, *(counts[label, dataset] for dataset in datasets)] for label in LABELS),
        ["labels", *(sum(counts[x, dataset] for x in LABELS) for dataset in datasets)],
        ["videos", *(of_dataset[dataset] for dataset in datasets)],
        ["videos with labels", *(labelled[dataset] for dataset in datasets)],
    ]
    for row in rows[1:]:
        row.append(sum(x for x in row if isinstance(x, int)))
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        yield "  ".join([f"{row[0]:{widths[0]}}", *cells])
    yield ""
    yield f"left out: {problems.height}"
    for problem in problems.sort("file", "line", "part").iter_rows(named=True):
        yield f"{problem['file']}:{problem['line']}: {problem['reason']}"
        yield f"    {problem['text']}"


def importer_of(landing: Path, path: Path) -> str:
    """What reads a label file, in words."""
    from fall_assets.datasets import DATASETS

    below = path.relative_to(landing)
    known = DATASETS.get(below.parts[0])
    if known is None:
        return _site_importer(path)
    if below.as_posix() == f"{known.name}/labels.csv":
        return f"our CSV, for the videos that {known.name}'s own label files do not list"
    return f"{known.name}'s own labels (fall_assets/datasets/{known.name}.py)"


def _site_importer(path: Path) -> str:
    from fall_assets.labelling.tools import reader_for

    if reader_for(path) is not None:
        return "the export of a labelling tool (docs/labelling-tools.md)"
    return "our CSV" if path.suffix.lower() == ".csv" else "nothing reads it"


@contextmanager
def _work(footage: Path | None) -> Iterator[Work]:
    """The site's lake, or one that lives as long as the command and holds a folder's labels."""
    from fall_assets.lake import Lake
    from fall_assets.pipeline.work import Work

    site = site_from_environment()
    if footage is None:
        yield Work(site, Lake(site.lake_root))
        return
    from fall_assets.pipeline.collection import collect, footage_days, refresh_cameras
    from fall_assets.pipeline.labelling import label

    with tempfile.TemporaryDirectory() as folder:
        apart = replace(site, root=Path(folder), landing=footage.resolve())
        work = Work(apart, Lake(apart.lake_root), log=lambda line: click.echo(line, err=True))
        refresh_cameras(work)
        days = footage_days(work)
        for day in days:
            collect(work, day)
        label(work, days)
        yield work
