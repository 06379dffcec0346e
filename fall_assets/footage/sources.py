"""Where footage comes from: the site's sources, as configured.

What belongs here: the settings of a source. What does not: finding files (see `discovery.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_TEMPLATE = "{camera}/{date}/{time}.mp4"


@dataclass(frozen=True)
class SourceSettings:
    """One place in which recorders write.

    Attributes:
        name: of the source, as it stands in the table `sightings`.
        at: a folder below the landing folder ('' is the landing folder itself), or a bucket as
            's3://bucket/prefix'.
        template: the layout of paths below that place.
        timezone: the IANA zone of the times in names.
    """

    name: str = "recorders"
    at: str = ""
    template: str = DEFAULT_TEMPLATE
    timezone: str = "UTC"

    @property
    def is_bucket(self) -> bool:
        """Whether it is a bucket rather than a folder."""
        return self.at.startswith("s3://")
