"""Beam pipelines as our steps run them: which runner, with which options, and rows counted while they pass."""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from schemas.component import BeamOptions, Progress
from schemas.errors import ConfigError, PenstockError, did_you_mean

if TYPE_CHECKING:
    import apache_beam

IN_MEMORY = "InMemoryRunner"


@contextmanager
def pipeline(options: BeamOptions) -> Iterator[apache_beam.Pipeline]:
    """A Beam pipeline that runs, and is waited for, when the block ends without an exception.

    Elements should be shards or large Arrow batches. Raises ConfigError for a runner that Beam does not know; an error of
    ours that is raised inside a transform arrives here with the message it was given.
    """
    import apache_beam
    from apache_beam.options.pipeline_options import PipelineOptions

    # TFDV's own transforms fail Beam's type check with a label feature. The flags are given, even when empty, because Beam
    # otherwise reads this process's command line.
    flags = ["--no_pipeline_type_check", *options.args]
    if options.runner == IN_MEMORY:
        from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

        # Named outright: DirectRunner first tries to download the Prism binary.
        runner: Any = FnApiRunner()
    else:
        runner = options.runner
        _check(runner)
    failure: PenstockError | None = None
    try:
        with apache_beam.Pipeline(runner=runner, options=PipelineOptions(flags)) as running:
            yield running
    except PenstockError as error:
        failure = _without_beam(error)
    if failure is not None:
        raise failure


class RowCount:
    """Rows that passed so far, over all of a pipeline's shards, told to a step's Progress.

    Beam pickles what a transform holds. A count is pickled as a reference, so that the transforms in this process add to
    the one the step made; in a remote worker, where there is nobody to tell, adding does nothing.
    """

    _live: ClassVar[dict[str, RowCount]] = {}

    def __init__(self, progress: Progress, total: int | None = None, unit: str = "rows") -> None:
        """`total` is the number of rows to come, when it is known; `unit` is what is counted."""
        self._progress, self._total, self._unit = progress, total, unit
        self._done = 0
        self._key = uuid.uuid4().hex
        self._lock = threading.Lock()

    @property
    def done(self) -> int:
        """How many were counted in this process."""
        return self._done

    def __call__(self, rows: int) -> None:
        """`rows` more have passed."""
        with self._lock:
            self._done += rows
            self._progress(self._done, self._total, self._unit)

    def __enter__(self) -> RowCount:
        self._live[self._key] = self
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.pop(self._key, None)

    def __reduce__(self) -> tuple[Any, ...]:
        return _row_count, (self._key,)


def _row_count(key: str) -> RowCount:
    return RowCount._live.get(key) or RowCount(Progress())


def _check(runner: str) -> None:
    from apache_beam.options.pipeline_options import StandardOptions

    known = (IN_MEMORY, *StandardOptions.KNOWN_RUNNER_NAMES)
    # Beam also takes 'flink' for FlinkRunner, and the dotted path of a runner class.
    if "." not in runner and runner.lower().removesuffix("runner") not in {
        name.lower().removesuffix("runner") for name in known
    }:
        raise ConfigError(
            f"beam.runner: Beam has no runner '{runner}'.{did_you_mean(runner, known)} It has {', '.join(known)}"
        )


def _without_beam(error: PenstockError) -> PenstockError:
    """`error` with the message it was raised with: Beam appends the transform's name and raises a copy."""
    arguments = [re.sub(r" \[while running '[^']*'\]$", "", str(argument)) for argument in error.args]
    plain = type(error)(*(arguments or [""])).with_traceback(error.__traceback__)
    plain.__cause__ = error.__cause__
    return plain
