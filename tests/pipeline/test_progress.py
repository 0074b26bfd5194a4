"""Progress that is told on, not at every call."""

from __future__ import annotations

from pipeline.progress import SpacedProgress


def test_the_first_and_the_last_are_told_on_and_what_comes_too_soon_between_is_not():
    told: list[tuple[int, int | None, str]] = []
    progress = SpacedProgress(lambda *how: told.append(how), every_s=1e9)

    progress(1, 3, "steps")
    progress(2, 3, "steps")
    progress(3, 3, "steps")

    assert told == [(1, 3, "steps"), (3, 3, "steps")]
