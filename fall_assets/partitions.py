"""How assets are partitioned: by day of the segment's start, UTC."""

import dagster as dg

DAYS = dg.DailyPartitionsDefinition(start_date="2024-01-01", end_offset=1)
"""Every day since the first that the platform accepts, today included."""
