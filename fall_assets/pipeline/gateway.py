"""The gateway's inbox: what boxes and wards said becomes rows, answers become labels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import polars as pl

from fall_assets.delivery.gateway import Gateway, Inbox, platform_token
from fall_assets.labelling.staff import VERDICT_OF
from fall_assets.lake.registry import table
from fall_assets.pipeline.feedback import keep_reports
from fall_assets.pipeline.work import Work

_BY_DAY: Mapping[Inbox, tuple[str, str]] = {
    "alerts": ("edge_alerts", "raised_utc"),
    "answers": ("ward_answers", "raised_utc"),
    "reports": ("edge_reports", "at_utc"),
}
"""Of each inbox: its table, and the moment that decides the day."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Ids that the gateway takes."""


@dataclass(frozen=True)
class Received:
    """Rows that were new, by table."""

    rows: Mapping[str, int] = field(default_factory=dict)
    days: frozenset[date] = frozenset()


def open_gateway(work: Work) -> Gateway:
    """The site's gateway.

    Raises:
        PermanentFailureError: the site has none, or no token for it.
    """
    from fall_assets.errors import PermanentFailureError

    url = work.site.settings.gateway.url
    if not url:
        raise PermanentFailureError("the site has no gateway: set url in [gateway] of site.toml")
    return Gateway(url, platform_token(work.site.root))


def receive(work: Work, gateway: Gateway | None = None) -> Received:
    """Take in what is new at the gateway, and tell it where the cameras are.

    Every row has the gateway's running number, and asking goes on behind the highest that the lake
    holds: a run that was killed loses nothing and doubles nothing. Without a gateway nothing is
    done.

    Raises:
        GatewayAwayError: the gateway is not there.
    """
    if gateway is None and not work.site.settings.gateway.url:
        return Received()
    counts: dict[str, int] = {}
    days: set[date] = set()
    with gateway or open_gateway(work) as opened:
        opened.put_cameras(_places(work))
        for inbox, (name, moment) in _BY_DAY.items():
            rows = [_row(name, row, moment) for row in opened.inbox(inbox, _newest(work, name))]
            counts[name] = len(rows)
            days |= {row["day"] for row in rows}
            _keep(work, name, rows)
        falls = [
            _row("reported_falls", {**row, "reported_utc": row["received_utc"]}, None)
            for row in opened.inbox("falls", _newest(work, "reported_falls"))
        ]
        counts["reported_falls"] = len(falls)
        days |= {row[at].date() for row in falls for at in ("from_utc", "until_utc")}
        keep_reports(work, falls)
        updates = [
            _row("edge_updates", row, None)
            for row in opened.inbox("updates", _newest(work, "edge_updates"))
        ]
        counts["edge_updates"] = len(updates)
        if updates:
            schema = table("edge_updates").schema
            frame = pl.DataFrame(updates, schema=schema)
            work.lake.append("edge_updates", frame, work.provenance(), skip_existing=True)
    return Received(counts, frozenset(days))


def _places(work: Work) -> list[dict[str, Any]]:
    """What the gateway must know of each camera that a box may be given."""
    cameras = work.lake.read("cameras", columns=["camera_id", "ward", "room"])
    return [
        {**row, "bed": None, "box": None}
        for row in cameras.iter_rows(named=True)
        if _ID.fullmatch(row["camera_id"])
    ]


def _newest(work: Work, name: str) -> int:
    """The highest of the gateway's numbers that the lake holds; 0 without any."""
    newest = work.lake.scan(name).select(pl.col("number").max()).collect().item()
    return int(newest or 0)


def _row(name: str, told: Mapping[str, Any], moment: str | None) -> dict[str, Any]:
    """A row of the lake from one of the gateway; what the table does not have is left out."""
    schema = table(name).schema
    row = {"number": told["id"], **told}
    for key, kind in schema.items():
        if isinstance(row.get(key), str) and isinstance(kind, pl.Datetime):
            row[key] = datetime.fromisoformat(row[key])
    if moment is not None:
        row["day"] = row[moment if moment in row else "at_utc"]
        at = row["day"]
        row["day"] = (datetime.fromisoformat(at) if isinstance(at, str) else at).date()
    return {key: row.get(key) for key in schema}


def _keep(work: Work, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    frame = pl.DataFrame(rows, schema=table(name).schema).sort("number")
    for (day,), part in frame.group_by("day", maintain_order=True):
        if isinstance(day, date):
            work.lake.extend_partition(name, day, part, work.provenance(day))
    if name == "ward_answers":
        _keep_verdicts(work, frame)


def _keep_verdicts(work: Work, answers: pl.DataFrame) -> None:
    """Answers that say what was found stand in `alert_feedback`, as those of the command line."""
    found = answers.filter(pl.col("answer").is_in(list(VERDICT_OF))).select(
        "alert_id", "at_utc", "by", verdict=pl.col("answer").replace_strict(VERDICT_OF)
    )
    found = found.unique(["alert_id", "at_utc"], keep="last", maintain_order=True)
    if found.height:
        work.lake.append("alert_feedback", found, work.provenance(), skip_existing=True)
