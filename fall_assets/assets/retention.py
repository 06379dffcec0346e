"""Retention: footage that is old enough is deleted, with an audit."""

from collections.abc import Iterator

import dagster as dg

from fall_assets.assets.support import markdown_table, working
from fall_assets.pipeline.retention import apply_retention
from fall_assets.resources.site import SiteResource

EVERY_FILE = dg.AssetCheckSpec(
    "every_old_file_was_deleted",
    asset="deletions",
    description="Files that may go could be deleted; those that could not are tried again.",
)


@dg.asset(deps=["videos", "labels", "alerts"], check_specs=[EVERY_FILE])
def deletions(
    context: dg.AssetExecutionContext, site: SiteResource
) -> Iterator[dg.MaterializeResult[None]]:
    """The audit of deleted footage: what retention removed, and what keeps the rest."""
    with working(context, site) as work:
        done = apply_retention(work)
        days = work.site.settings.retention.days
    kept = [{"kept because": why, "segments": count} for why, count in done.kept_by()]
    shown = [{name: row[name] for name in ("path", "reason")} for row in done.failures]
    yield dg.MaterializeResult(
        check_results=[
            dg.AssetCheckResult(
                check_name=EVERY_FILE.name,
                passed=not done.failed,
                metadata={"files": done.failed, "why": markdown_table(shown)},
            )
        ],
        metadata={
            "dagster/row_count": site.lake().rows("deletions"),
            "retention": f"{days} days" if days else "for ever",
            "days looked at": done.days,
            "files deleted": done.files,
            "bytes deleted": done.bytes,
            "files already gone": done.already_gone,
            "segments without a file now": done.videos,
            "old segments kept": markdown_table(kept),
            "files kept after they were planned": done.spared,
            "files not deleted": done.failed,
            "days left to the next run": [day.isoformat() for day in done.busy],
        },
    )
