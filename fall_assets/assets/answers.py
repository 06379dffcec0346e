"""Answers to drift: what was done about each, step by step, and what is asked of people."""

from datetime import UTC, datetime

import dagster as dg

from fall_assets import jobs
from fall_assets.assets.support import markdown_table, row_metadata, working
from fall_assets.automation.retrainings import registered, retrainings
from fall_assets.pipeline.answers import answer_drift
from fall_assets.pipeline.drift_records import read_rows
from fall_assets.pipeline.monitoring import show_newest
from fall_assets.resources.site import SiteResource


@dg.asset(deps=["drift_report"])
def drift_answers(
    context: dg.AssetExecutionContext, site: SiteResource
) -> dg.MaterializeResult[None]:
    """What was done about each drift, step by step, and what is asked of people."""
    with working(context, site) as work:
        runs = retrainings(context.instance, jobs.retraining.name)
        versions = registered(context.instance, runs, read_rows(work))
        done = answer_drift(work, datetime.now(UTC), runs, versions)
        if done.rows:
            show_newest(work)
        rows = work.lake.read("drift_answers")
    open_ones = [one for one in done.episodes if one.open]
    return dg.MaterializeResult(
        metadata={
            **row_metadata(rows, by=["answer", "state"]),
            "this run": markdown_table(
                [
                    {"cause": row.cause, "answer": row.answer, "state": row.state}
                    | {"what": row.sentence}
                    for row in done.rows
                ]
            ),
            "open drift": markdown_table(
                [
                    {"episode": one.id, "cause": one.cause, "since": one.since}
                    | {"cameras": ", ".join(one.cameras), "what": one.words}
                    for one in open_ones
                ]
            ),
            "waits for": markdown_table([{"what": text} for text in done.decision.waits]),
        }
    )
