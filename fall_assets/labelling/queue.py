"""The review queue: what a person should look at next.

What belongs here: the ranking, as a pure function. What does not: reading the lake.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ReviewSettings:
    """How the queue is ranked.

    Attributes:
        days: footage of so many of the newest days is considered.
        items: length of the queue.
        piece_s: length of one piece.
    """

    days: int = 14
    items: int = 200
    piece_s: float = 4.0
