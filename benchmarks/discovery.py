"""What a tick of `footage_sensor` costs with a long history against a short one.

For each layout two sites are made, with 2,000 and with 200,000 known segments (files without
content; their rows stand in the lake); 500 new ones come before each tick. Ticks of the two sites
alternate, so that what else the machine does falls on both; the medians and their ratio count.

The bucket's server is a stand-in that answers S3's listing from a sorted index, as S3 does: moto
looks through all keys for each request, so that it, not the platform, would be measured.
"""

from __future__ import annotations

import argparse
import bisect
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

import dagster as dg
import polars as pl

from fall_assets.automation.sensors import footage_sensor
from fall_assets.definitions import build_definitions
from fall_assets.footage.template import PathTemplate
from fall_assets.lake import Lake, Provenance
from fall_assets.lake.registry import table
from fall_assets.resources.site import SiteResource

GOAL = 1.5
SHORT, LONG, NEW = 2_000, 200_000, 500
WARM = 3
CAMERAS = 20
SEGMENTS_PER_DAY = 660
"""The short history is three days, so that both sites have the same last days."""
LAYOUTS = {
    "default": "{camera}/{date}/{time}.mp4",
    "Frigate": "recordings/{date}/{hour}/{camera}/{minute}.{second}.mp4",
    "flat folder": "{camera}_{year}{month}{day}_{hour}{minute}{second}.mp4",
    "bucket": "{camera}/{date}/{time}.mp4",
}
_BY = Provenance("benchmark", None, "benchmark")


class Objects:
    """The keys of a bucket with their times of change, sorted."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.changed: dict[str, float] = {}
        self.requests = 0

    def add(self, changed: dict[str, float]) -> None:
        """Put objects, with their times of change."""
        self.changed.update(changed)
        self.keys = sorted(self.changed)

    def page(self, prefix: str, after: str, delimiter: str) -> tuple[list[str], list[str], bool]:
        """Keys and common prefixes of one answer, and whether there are more."""
        keys: list[str] = []
        folders: list[str] = []
        place = bisect.bisect_right(self.keys, max(after, prefix[:-1] if prefix else ""))
        while place < len(self.keys) and len(keys) + len(folders) < 1000:
            key = self.keys[place]
            if not key.startswith(prefix):
                if key > prefix:
                    return keys, folders, False
                place += 1
                continue
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            if end < 0:
                keys.append(key)
                place += 1
            else:
                folders.append(key[: end + 1])
                place = bisect.bisect_left(self.keys, key[:end] + "\U0010ffff")
        return keys, folders, place < len(self.keys)


@contextmanager
def bucket_server(buckets: dict[str, Objects]) -> Iterator[str]:
    """S3's ListObjectsV2 over these buckets; its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            """Answer a listing."""
            asked = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(asked.query).items()}
            objects = buckets[asked.path.strip("/")]
            objects.requests += 1
            after = query.get("continuation-token") or query.get("start-after", "")
            keys, folders, more = objects.page(
                query.get("prefix", ""), after, query.get("delimiter", "")
            )
            parts = ['<?xml version="1.0"?><ListBucketResult>']
            for key in keys:
                at = datetime.fromtimestamp(objects.changed[key], UTC)
                parts.append(
                    f"<Contents><Key>{escape(key)}</Key><Size>1</Size><ETag>e</ETag>"
                    f"<LastModified>{at:%Y-%m-%dT%H:%M:%S}.000Z</LastModified></Contents>"
                )
            for folder in folders:
                parts.append(f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>")
            parts.append(f"<IsTruncated>{str(more).lower()}</IsTruncated>")
            if more:
                parts.append(
                    f"<NextContinuationToken>{(keys or folders)[-1]}</NextContinuationToken>"
                )
            body = "".join([*parts, "</ListBucketResult>"]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


class Hospital:
    """One site with so many known segments, all of them older than today."""

    def __init__(self, root: Path, layout: str, known: int, bucket: Objects | None) -> None:
        self.root, self.bucket = root, bucket
        self.landing = root / "landing"
        self.landing.mkdir(parents=True)
        self.template = PathTemplate(LAYOUTS[layout])
        at = f"s3://{root.name}" if bucket is not None else ""
        (root / "site.toml").write_text(
            "[footage]\nsettle_s = 1.0\n"
            f'[[footage.sources]]\nname = "nvr"\nat = "{at}"\ntemplate = "{self.template.text}"\n'
        )
        self.resource = SiteResource(root=str(root), config=str(root / "site.toml"))
        self.instance = dg.DagsterInstance.ephemeral()
        self.repository = build_definitions(self.resource).get_repository_def()
        self.cursor: str | None = None
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        self.next = today
        self.put(self._known(today, known), new=False)
        self._write_rows(today, known)

    def _known(self, today: datetime, known: int) -> list[tuple[str, datetime]]:
        step = timedelta(seconds=86_400 / (SEGMENTS_PER_DAY / CAMERAS))
        return [(f"cam-{n % CAMERAS:02}", today - (n // CAMERAS + 1) * step) for n in range(known)]

    def _write_rows(self, today: datetime, known: int) -> None:
        """The lake knows the known segments: rows by day, as intake writes them."""
        lake = Lake(self.root / "lake")
        files = pl.DataFrame(
            [
                {
                    "camera_id": camera,
                    "path": self._address(self.template.format(camera, start)),
                    "start_utc": start,
                    "day": start.date(),
                }
                for camera, start in self._known(today, known)
            ],
            schema_overrides={"start_utc": pl.Datetime("us", "UTC")},
        ).with_columns(
            pl.col("path").hash().cast(pl.String).alias("video_id"),
        )
        cameras = pl.DataFrame(
            {"camera_id": sorted(set(files["camera_id"]))},
        ).with_columns(
            ward=pl.lit("w"), room=pl.lit("r"), view=pl.lit("unknown"), dataset=pl.lit("site"),
            crop=pl.lit(None, dtype=pl.String),
        )  # fmt: skip
        lake.append("cameras", cameras, _BY)
        for (day,), rows in files.group_by("day"):
            videos = rows.with_columns(
                dataset=pl.lit("site"), duration_s=10.0, width=320, height=180, fps=10.0,
                frames=100, codec=pl.lit("h264"), bytes=1, scene=pl.lit("s"),
                subject=pl.lit(None, dtype=pl.String),
                deleted_utc=pl.lit(None, dtype=pl.Datetime("us", "UTC")),
            )  # fmt: skip
            sightings = rows.with_columns(
                source=pl.lit("nvr"), bytes=1, fingerprint=pl.lit("0-0"),
                first_seen_utc=pl.col("start_utc"),
                gone_utc=pl.lit(None, dtype=pl.Datetime("us", "UTC")),
            )  # fmt: skip
            for name, frame in (("videos", videos), ("sightings", sightings)):
                schema = table(name).schema
                lake.replace_partition(name, day, frame.select(list(schema)).cast(schema), _BY)  # type: ignore[arg-type]

    def _address(self, path: str) -> str:
        return path if self.bucket is None else f"s3://{self.root.name}/{path}"

    def put(self, segments: list[tuple[str, datetime]], *, new: bool = True) -> None:
        """Write segments without content."""
        paths = [self.template.format(camera, start) for camera, start in segments]
        if self.bucket is not None:
            # Objects may be given the time at which they would have come.
            ends = (time.time() if new else start.timestamp() + 60 for _camera, start in segments)
            self.bucket.add(dict(zip(paths, ends, strict=True)))
            return
        made: set[Path] = set()
        for path in paths:
            target = self.landing / path
            if target.parent not in made:
                target.parent.mkdir(parents=True, exist_ok=True)
                made.add(target.parent)
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY))

    def bring(self) -> None:
        """500 new segments of today."""
        per_camera = NEW // CAMERAS
        self.put(
            [
                (f"cam-{n % CAMERAS:02}", self.next + timedelta(seconds=n // CAMERAS))
                for n in range(NEW)
            ]
        )
        self.next += timedelta(seconds=per_camera)

    def tick(self) -> tuple[float, int]:
        """Wall seconds of one evaluation by Dagster, and the new files that it saw."""
        started = time.perf_counter()
        with dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            repository_def=self.repository,
            resources={"site": self.resource},
        ) as context:
            data = footage_sensor.evaluate_tick(context)
        took = time.perf_counter() - started
        self.cursor = data.cursor
        seen = [
            int(request.tags["fall_assets/reason"].split()[0])
            for request in data.run_requests or []
        ]
        return took, sum(seen)


def measure(layout: str, root: Path, repeats: int, short: int, long: int) -> list[float]:
    """Medians of a tick's seconds with the short and the long history, and requests per tick."""
    buckets = {f"{name}-site": Objects() for name in ("short", "long")}
    with bucket_server(buckets) as url:
        os.environ.update(
            AWS_ENDPOINT_URL=url, AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b",
            AWS_REGION="us-east-1", AWS_ALLOW_HTTP="true",
        )  # fmt: skip
        sites = [
            Hospital(root / name, layout, known, buckets[name] if layout == "bucket" else None)
            for name, known in (("short-site", short), ("long-site", long))
        ]
        time.sleep(2.2)
        # The first ticks of a process read everything and begin to listen to large folders.
        for _ in range(WARM):
            for site in sites:
                site.tick()
                site.bring()
            time.sleep(2.2)
        for site in sites:
            site.tick()
        times: list[list[float]] = [[], []]
        for objects in buckets.values():
            objects.requests = 0
        for repeat in range(repeats):
            for site in sites:
                site.bring()
            time.sleep(2.2)
            order = (0, 1) if repeat % 2 else (1, 0)
            for place in order:
                took, seen = sites[place].tick()
                times[place].append(took)
                if seen != NEW:
                    sys.exit(f"{layout}: a tick saw {seen} new files in place of {NEW}")
        for site in sites:
            site.instance.dispose()
            shutil.rmtree(site.root)
    requests = [objects.requests / repeats for objects in buckets.values()]
    return [*(statistics.median(each) for each in times), *requests]


def main() -> int:
    """Measure every layout and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--short", type=int, default=SHORT)
    parser.add_argument("--long", type=int, default=LONG)
    parser.add_argument("--layouts", nargs="*", default=list(LAYOUTS), choices=list(LAYOUTS))
    asked = parser.parse_args()
    print(f"a tick with {NEW} new segments, {asked.short} against {asked.long} known")
    print(f"{'layout':<12} {'short ms':>9} {'long ms':>9} {'ratio':>6}")
    missed = []
    for layout in asked.layouts:
        with tempfile.TemporaryDirectory(prefix="discovery-") as folder:
            short_s, long_s, *requests = measure(
                layout, Path(folder), asked.repeats, asked.short, asked.long
            )
        ratio = long_s / short_s
        more = f"  requests {requests[0]:.0f} and {requests[1]:.0f}" if requests[0] else ""
        print(
            f"{layout:<12} {short_s * 1e3:>9.1f} {long_s * 1e3:>9.1f} {ratio:>6.2f}{more}",
            flush=True,
        )
        if ratio >= GOAL:
            missed.append(layout)
    print(f"goal under {GOAL}: {'missed by ' + ', '.join(missed) if missed else 'met'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
