"""Training logs: what TensorBoard shows of a training, and TensorFlow's profile of some of its steps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

RUNS = {"": "train", "val_": "validation"}  # the names that Keras' own TensorBoard callback gives them


class TrainingLogs:
    """Writes event files into a directory that survives a killed run, and profiles the steps `profile[0]` ... `profile[1]`."""

    def __init__(self, directory: Path, profile: tuple[int, int] | None = None) -> None:
        import tensorflow as tf

        self._directory = directory
        self._profile = profile
        self._profiling = False
        self._writers = {run: tf.summary.create_file_writer(str(directory / run)) for run in RUNS.values()}

    def validated(self, step: int, metrics: Mapping[str, float]) -> None:
        """Note the metrics and the learning rate after `step` steps."""
        import tensorflow as tf

        for name, value in metrics.items():
            prefix = "val_" if name.startswith("val_") else ""
            with self._writers[RUNS[prefix]].as_default():
                tf.summary.scalar(name.removeprefix(prefix), value, step=step)
        for writer in self._writers.values():
            writer.flush()

    def before_step(self, step: int) -> None:
        """Start the profiler when `step`, counted from 1, is the first to be profiled."""
        import tensorflow as tf

        if self._profile is not None and self._profile[0] <= step <= self._profile[1] and not self._profiling:
            tf.profiler.experimental.start(str(self._directory))
            self._profiling = True

    def after_step(self, step: int) -> None:
        """Write the profile when `step` was the last to be profiled."""
        if self._profiling and self._profile is not None and step >= self._profile[1]:
            self._stop()

    def close(self) -> None:
        """Write out what there is."""
        if self._profiling:
            self._stop()
        for writer in self._writers.values():
            writer.close()

    def _stop(self) -> None:
        import tensorflow as tf

        tf.profiler.experimental.stop()
        self._profiling = False
