"""The extractor `pose`: people of each picture, followed through the stretch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fall_assets.features.extractors.base import Needs, SampleOrder, Yield
from fall_assets.features.extractors.declared import needs_of, yields_of
from fall_assets.features.movenet import MoveNet
from fall_assets.features.people import People
from fall_assets.features.settings import FeatureSettings
from fall_assets.features.tracking import Track, Tracker


class PoseExtractor:
    """MoveNet and a tracker; yields `Track`s, in the order of their start within a stretch."""

    def __init__(self, settings: FeatureSettings, network: MoveNet) -> None:
        self.needs: Needs = needs_of(settings)
        self.yields: tuple[Yield, ...] = yields_of(settings)
        self.network = network
        self._tracker_settings = settings.pose.tracker
        self._order = SampleOrder()
        self._aspect = 1.0
        self._tracker: Tracker | None = None
        self._next = 0
        self.sightings = 0
        """In so many pictures of the stretch somebody may be, believed or not."""

    def begin(self, aspect: float) -> None:
        """See `Extractor`."""
        self._order.begin()
        self._aspect = aspect
        self._tracker = None
        self.sightings = 0

    def look(self, picture: NDArray[np.uint8], served: range) -> None:
        """See `Extractor`; `picture` has shape (height, width, 3)."""
        self._order.look(served)
        people = self.network.people(picture)
        self.sightings += len(people) > 0
        if self._tracker is None:
            self._next = served.start
            self._tracker = Tracker(
                self._tracker_settings,
                self._aspect,
                sample_hz=self.needs.sample_hz,
                first=served.start,
            )
        for _ in range(self._next, served.start):
            self._tracker.step(People.nobody())
        for _ in served:
            self._tracker.step(people)
        self._next = served.stop

    def end(self) -> Sequence[Track]:
        """See `Extractor`."""
        self._order.end()
        tracker, self._tracker = self._tracker, None
        return tracker.finish() if tracker else []

    def people(self, picture: NDArray[np.uint8]) -> People:
        """Who is seen in a single picture that belongs to no stretch: a glance."""
        return self.network.people(picture)
