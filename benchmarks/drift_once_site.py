"""The code location of `drift_once`: the platform's own, whose drift sensor ticks every 4 s."""

from fall_assets.automation import sensors
from fall_assets.definitions import defs

# A minute between ticks would make the proof last an hour.
vars(sensors.drift_sensor)["_min_interval"] = 4

__all__ = ["defs"]
