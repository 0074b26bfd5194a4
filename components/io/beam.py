"""Beam pipelines as our steps run them: which runner, with which options, and rows counted while they pass."""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from components.io import beam_failures, workers
from components.io.beam_options import IN_MEMORY, check, parsed
from schemas.component import BeamOptions, Progress
from schemas.errors import PenstockError

if TYPE_CHECKING:
    import apache_beam


@contextmanager
def pipeline(options: BeamOptions, paths: Iterable[Path] = ()) -> Iterator[apache_beam.Pipeline]:
    """A Beam pipeline that runs, and is waited for, when the block ends without an exception.

    Elements should be shards or large Arrow batches. `paths` are what workers on other machines have to see under the same
    name. What is given to transforms should be `Packed`, so that a worker is looked at before it begins.

    Raises ConfigError for a runner or an argument that Beam does not know, a job service that does not answer, and workers that
    lack a module or a path. An error of ours that is raised inside a transform arrives here with the message it was given.
    """
    import apache_beam

    given = parsed(options)
    check(options, given)
    if options.runner == IN_MEMORY:
        from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

        # Named outright: DirectRunner first tries to download the Prism binary.
        runner: Any = FnApiRunner()
    else:
        runner = options.runner
    failure: Exception | None = None
    cause: Exception | None = None
    with ExitStack() as stack:
        if options.runner != IN_MEMORY:
            stack.enter_context(workers.travelling(paths))
        try:
            with apache_beam.Pipeline(runner=runner, options=given) as running:
                yield running
        except PenstockError as error:
            failure = _without_beam(error)
        except Exception as error:
            if options.runner == IN_MEMORY:
                raise
            every = given.get_all_options()
            failure = beam_failures.explained(error, every["job_endpoint"], every["environment_config"])
            if failure is error:
                raise
            cause = error
    if failure is not None:
        raise failure from cause


def place(path: Path, options: BeamOptions) -> str:
    """`path` as a worker finds it, which elsewhere has another working directory."""
    return str(path if options.runner == IN_MEMORY else path.absolute())


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


def _without_beam(error: PenstockError) -> PenstockError:
    """`error` with the message it was raised with: Beam appends the transform's name and raises a copy."""
    arguments = [re.sub(r" \[while running '[^']*'\]$", "", str(argument)) for argument in error.args]
    plain = type(error)(*(arguments or [""])).with_traceback(error.__traceback__)
    plain.__cause__ = error.__cause__
    return plain
