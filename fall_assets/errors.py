"""Failure types that every package shares. What belongs here: types, never handling.

A run is retried only where a retry can help, so each failure says which kind it is.
"""


class FallAssetsError(Exception):
    """Base of all errors that this package raises on purpose."""


class PermanentFailureError(FallAssetsError):
    """Trying again gives the same result; the message says what a person must do.

    The Dagster layer turns it into a failure without retries.
    """


class PassingFailureError(FallAssetsError):
    """Something outside was busy or away; trying again later may succeed."""


class InvalidRowsError(PermanentFailureError):
    """A frame does not fit the schema registry; nothing of it was written."""
