"""Where the files of segments are: a segment may have several names, or none any more.

What belongs here: from a segment to a file. What does not: opening it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from fall_assets.pipeline.work import Work


def files_of(work: Work, videos: pl.DataFrame) -> Mapping[str, str]:
    """video_id to the path of a file with that content, for rows of `videos` that have one.

    The name under which a segment was first seen is preferred; where it is gone, or has another
    content by now, another name is taken. Segments that were taken in before names were kept have
    the one of their row.
    """
    standing = videos.filter(pl.col("deleted_utc").is_null())
    if standing.is_empty():
        return {}
    days = standing["day"].unique().to_list()
    named = work.lake.read("sightings", days=days)
    there = named.filter(pl.col("gone_utc").is_null())
    elsewhere = standing.filter(~pl.col("video_id").is_in(there["video_id"].to_list()))
    if elsewhere.height:
        there = pl.concat([there, sightings_of(work, elsewhere["video_id"].to_list())])
    found: dict[str, str] = dict(
        there.sort("path", descending=True).select("video_id", "path").iter_rows()
    )
    holders = dict(named.select("path", "video_id").iter_rows())
    for video_id, path in standing.select("video_id", "path").iter_rows():
        if video_id not in found and holders.get(path) is None:
            found[video_id] = path
    first = standing.join(there, on=["video_id", "path"], how="semi")
    return found | dict(first.select("video_id", "path").iter_rows())


def sightings_of(work: Work, ids: Sequence[str]) -> pl.DataFrame:
    """All names of files that are there, whatever their day, of these contents; sorted by path.

    Row groups in which every file is gone are passed over by their statistics.
    """
    return (
        work.lake.scan("sightings")
        .filter(pl.col("gone_utc").is_null())
        .filter(pl.col("video_id").is_in(list(ids)))
        .collect(engine="streaming")
        .sort("path")
    )
