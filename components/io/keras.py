"""Keras as every step uses it: tf_keras, also inside KerasTuner, and out of AutoGraph's reach."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.abc
import importlib.machinery
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from components.io.quantized_keras import scope_of
from schemas.artifacts import Model
from schemas.errors import ArtifactError

if TYPE_CHECKING:
    import tf_keras

UNCONVERTED = ("tf_keras", "tensorflow_transform", "tfx_bsl", "keras_tuner")
"""Libraries that are graph code already, and that TensorFlow's own list of such libraries leaves out."""

KERAS_FILE = "model.keras"  # inside Format-Keras


def arrange() -> None:
    """From now on, whoever imports keras_tuner first gets one that works with tf_keras.

    KerasTuner imports the standalone `keras`, which is Keras 3 whatever TF_USE_LEGACY_KERAS says. While it is being
    imported, and only then, `keras` is tf_keras. A grid search of it that was killed goes on. Nothing is imported here, so this costs nothing where no user's module
    needs it; calling it again changes nothing. To be called before any module of the user's is loaded.
    """
    if not any(isinstance(finder, _KerasTunerFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _KerasTunerFinder())


def keras_tuner() -> Any:
    """The module keras_tuner, working with tf_keras.

    Raises ImportError when something has already imported it with Keras 3: models would be built with two Keras versions.
    """
    arrange()
    module = importlib.import_module("keras_tuner")
    if importlib.import_module("keras_tuner.src.backend.config").multi_backend():
        raise ImportError(
            "keras_tuner was imported with Keras 3 before components.io.keras.arrange() was called; import it later"
        )
    return module


def spare_libraries_autograph() -> None:
    """Keep AutoGraph from rewriting whole libraries, which costs the first training step ten seconds and gains nothing.

    The user's own functions stay convertible. Calling it again changes nothing.
    """
    from tensorflow.python.autograph.core import config, config_lib

    known = {rule._prefix for rule in config.CONVERSION_RULES if isinstance(rule, config_lib.DoNotConvert)}
    missing = tuple(config_lib.DoNotConvert(name) for name in UNCONVERTED if name not in known)
    config.CONVERSION_RULES = missing + config.CONVERSION_RULES


def random_generators(model: tf_keras.Model) -> list[Any]:
    """The generators that the model's layers (dropout, noise, augmentation) draw from, as trackable state.

    Keras keeps them out of its own checkpoints. There are none unless the model was built after
    `tf_keras.backend.experimental.enable_tf_random_generator()`, since the older random ops have no state to keep.
    """
    holders = (getattr(layer, "_random_generator", None) for layer in model._flatten_layers())
    found = (getattr(holder, "_generator", None) for holder in holders)
    return [generator for generator in found if generator is not None]


def save_keras(model: tf_keras.Model, to: Model) -> Path:
    """Write the trainable form into Format-Keras/ of `to`, optimizer included; gives the file.

    It is Keras' own archive: a subclassed model's class must be known to whoever loads it.
    """
    to.keras.mkdir(parents=True, exist_ok=True)
    file = to.keras / KERAS_FILE
    with _metrics_under_given_names(model):
        model.save(file, save_format="keras")
    return file


@contextlib.contextmanager
def _metrics_under_given_names(model: tf_keras.Model) -> Iterator[None]:
    """Where the metrics of a model of several outputs have the names that they were given.

    When such a model is first called with labels, Keras puts the output's name before that of each metric, in the object that
    is saved, and would do so again in whoever loads it: `strokes_strokes_accuracy`.
    """
    container = getattr(model, "compiled_metrics", None)
    renamed = []
    if container is not None and container.built and len(container._output_names) > 1:
        outputs = zip(container._output_names, container._metrics, container._weighted_metrics, strict=True)
        renamed = [
            (metric, metric._name, metric._name.removeprefix(f"{output}_"))
            for output, *found in outputs
            for metric in itertools.chain(*found)
            if metric is not None
        ]
    try:
        for metric, _, given in renamed:
            metric._name = given
        yield
    finally:
        for metric, name, _ in renamed:
            metric._name = name


def load_keras(model: Model, *, compiled: bool = True) -> tf_keras.Model:
    """The trainable form as it was when training ended, with its optimizer and loss if `compiled`.

    Raises ArtifactError when the artifact has none.
    """
    import tf_keras

    file = model.keras / KERAS_FILE
    if not file.is_file():
        raise ArtifactError(
            f"{model.path} has no {file.name}: a model made by run_fn has only its SavedModel. "
            f"Train with build_model, or load {model.serving} instead."
        )
    warm_up_class()
    with scope_of(file):
        return tf_keras.models.load_model(file, compile=compiled)


@functools.cache
def warm_up_class() -> Any:
    """The schedule WarmUp, known to Keras by name so that a saved model's optimizer can be loaded; made here since Keras is
    imported late."""
    import tensorflow as tf
    import tf_keras

    @tf_keras.utils.register_keras_serializable(package="penstock")
    class WarmUp(tf_keras.optimizers.schedules.LearningRateSchedule):
        """For `warmup_steps` steps the rate grows evenly to where `after`, a rate or schedule, then begins (arXiv:1706.02677)."""

        def __init__(self, warmup_steps: int, after: Any) -> None:
            super().__init__()
            self.warmup_steps = warmup_steps
            self.after = tf_keras.optimizers.schedules.deserialize(after) if isinstance(after, dict) else after

        def __call__(self, step: Any) -> Any:
            done = tf.cast(step, tf.float32)
            first = self._after(tf.zeros_like(done))
            warming = first * (done + 1.0) / float(self.warmup_steps)
            return tf.where(done < self.warmup_steps, warming, self._after(tf.maximum(done - self.warmup_steps, 0.0)))

        def _after(self, step: Any) -> Any:
            return tf.cast(self.after(step) if callable(self.after) else self.after, tf.float32)

        def get_config(self) -> dict[str, Any]:
            after = tf_keras.optimizers.schedules.serialize(self.after) if callable(self.after) else self.after
            return {"warmup_steps": self.warmup_steps, "after": after}

    return WarmUp


class _KerasTunerFinder(importlib.abc.MetaPathFinder):
    """Finds keras_tuner where it is, and hands it to a loader that lends it tf_keras."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "keras_tuner":
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _WithTfKeras(spec.loader)
        return spec


class _WithTfKeras(importlib.abc.Loader):
    """Executes a package while `keras` is tf_keras, and puts back what was there."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self.loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        tf_keras = importlib.import_module("tf_keras")
        before = sys.modules.get("keras")
        sys.modules["keras"] = tf_keras
        try:
            self.loader.exec_module(module)
        finally:
            if before is None:
                del sys.modules["keras"]
            else:
                sys.modules["keras"] = before
        _let_grids_go_on(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)  # get_source, get_data, ...: importlib.resources and tracebacks ask for them


def _let_grids_go_on(keras_tuner: Any) -> None:
    """Have a grid search that was killed go on: KerasTuner 1.4 has the order of its trials in memory alone, and cannot ask it any more.

    The order is that of the trials' values, and which of them still has a next one to try the oracle finds out by itself.
    """
    oracle = keras_tuner.oracles.GridSearchOracle
    reload_without_order = oracle.reload

    def reload(self: Any) -> None:
        reload_without_order(self)

        def compared(one: str, other: str) -> int:
            values = [self.trials[trial].hyperparameters.values for trial in (one, other)]
            return int(self._compare(*values))

        self._ordered_ids = type(self._ordered_ids)()
        for trial in sorted(self.start_order, key=functools.cmp_to_key(compared)):
            self._ordered_ids.insert(trial)
        self._populate_next = list(self.start_order)

    oracle.reload = reload
