"""Model, TransformGraph, TransformedExamples -> ExportedModels: split SavedModels, TensorFlow Lite and TensorFlow.js, measured."""

from __future__ import annotations

import functools
import math
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.io import saved_model
from components.io.keras import arrange, spare_libraries_autograph
from components.model import export_report, latency, limits, scores, signatures, sizes, split_model
from components.model import tfjs as tfjs_models
from components.model import tflite as tflite_models
from components.model.computing import share_accelerators
from components.model.export_report import Export
from components.model.input_data import InputData
from components.model.labels import Label, problems_of_label
from components.model.limits import Figures, Limit
from components.model.trained_network import known, load_trained
from components.model.training_data import open_splits
from components.model.training_settings import problems_of_counts
from schemas.artifacts import Examples, ExportedModels, Model, TransformedExamples, TransformGraph
from schemas.artifacts.exported_models import COMBINED, NETWORK, PREPROCESSING
from schemas.component import Lineage, Out, UserCode
from schemas.errors import ConfigError, TooMuchLost, did_you_mean

if TYPE_CHECKING:
    import tf_keras

DRAWN = 20_000_003  # the seed of the representative records: every export of a model sees the same
MEASURED = {"tflite": ("size", "latency"), "tfjs": ("size",)}


@dataclass(frozen=True, kw_only=True)
class Exporter:
    """Model, TransformGraph, TransformedExamples -> ExportedModels: split SavedModels, TensorFlow Lite and TensorFlow.js, measured.

    The served SavedModel is written in two halves as well, preprocessing and network, which together give the same answers.
    `tflite` and `tfjs` are forms of the network alone; every export says what its caller must do first. `int8` is TensorFlow
    Lite in which every operation has 8 bits, with ranges from `representative_rows` records of the eval split; with `int8_io`
    the numbers that go in and come out have 8 bits, too. TensorFlow.js takes the extra `tfjs`.

    TensorFlow Lite models are run on the eval split, on one thread. `thresholds` compare each with the network as a
    SavedModel: `{tflite: {auc: {min_change: -0.01}}, tflite_int8: {size: {max_kb: 30}, latency: {max_ms: 1}}, tfjs: {size:
    {max_ratio: 1}}}`, where `tflite` and `tfjs` are all their variants. A metric is a compiled one; sizes are of files.
    """

    tflite: tuple[tflite_models.Variant, ...] = tflite_models.VARIANTS
    tfjs: tuple[tfjs_models.Variant, ...] = ()
    int8_io: bool = False
    representative_rows: int = 200
    thresholds: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    batch_size: int = 256
    label: Label | None = None  # None: what the model was trained with
    sample_weight: str | None = None  # a transformed feature that weighs the examples; None: as the model was trained
    eval_steps: int | None = None  # batches to evaluate on; None: the whole eval split
    eval_split: str = "eval"
    custom_objects: tuple[UserCode, ...] = ()  # the user's layers, losses and metrics that Keras has to find

    def __post_init__(self) -> None:
        problems = problems_of_label(self.label, self.sample_weight)
        problems += problems_of_counts(self, "batch_size", "eval_steps", "representative_rows")
        for name in ("tflite", "tfjs"):
            chosen = getattr(self, name)
            if len(set(chosen)) < len(chosen):
                problems.append(f"{name}: {', '.join(chosen)} names a variant twice")
        if self.int8_io and "int8" not in self.tflite:
            problems.append("int8_io: no int8 variant is made. Add int8 to tflite, or leave int8_io out")
        if self.tfjs and not tfjs_models.is_installed():
            problems.append(
                "tfjs: TensorFlow.js is not installed here. Install it with `uv sync --extra tfjs`, or leave tfjs out"
            )
        problems += self._limits()[1]
        if problems:
            raise ConfigError(*problems)

    def run(
        self,
        model: Model,
        transform_graph: TransformGraph,
        examples: TransformedExamples | Examples,
        *,
        lineage: Lineage,
        exported_models: Out[ExportedModels],
    ) -> None:
        """Write every export, measure it and judge it.

        Raises ArtifactError for a model without its trainable form; ConfigError for what a format cannot hold, naming the
        operation and layer; TooMuchLost, once everything is written, where an export misses a threshold.
        """
        arrange()
        spare_libraries_autograph()
        share_accelerators()
        out = exported_models
        with known(self.custom_objects):
            network = load_trained(model, "model", lineage)
            data = open_splits(
                network,
                examples,
                transform_graph,
                self.label or model.properties.get("label"),
                self.batch_size,
                self.eval_split,
                self.eval_split,
                self.sample_weight or model.properties.get("sample_weight"),
            )
            specs = split_model.input_specs(data.features, transform_graph)
            split_model.save_preprocessing(data.features, transform_graph, out)
            split_model.save_network(network, specs, out)
            shutil.copytree(model.serving, out.export(COMBINED))
            layers = tuple(layer.name for layer in network.layers)
            self._convert(layers, data.train, tuple(specs), out)
            exports = self._measured(network, data.train, tuple(specs), out)
        threads = "TensorFlow Lite on one thread, SavedModels on TensorFlow's own"
        export_report.write(
            exports,
            f"{data.train.rows:,} records of split '{self.eval_split}'; calls with one record, the median of {latency.CALLS} "
            f"after {latency.WARM_UP_CALLS} of warm-up, taking turns: {threads}",
            out,
        )
        reasons = [
            f"{name}: {reason}"
            for name, bounds in self._limits()[0].items()
            for reason in limits.missed(bounds, exports[name].figures, exports[NETWORK].figures)
        ]
        if reasons:
            raise TooMuchLost(
                "exports miss their thresholds:\n  "
                + "\n  ".join(reasons)
                + "\nLeave the export out, train for its precision (Optimizer's quantize), or change the thresholds"
            )

    def _convert(
        self, layers: tuple[str, ...], data: InputData, features: tuple[str, ...], out: ExportedModels
    ) -> None:
        import numpy as np

        for name in (*self._names("tflite"), *self._names("tfjs")):
            out.export(name).mkdir()
        if self.tflite:
            with tempfile.TemporaryDirectory() as directory:
                representative = Path(directory) / "representative.npz"
                np.savez(representative, **_drawn(data, features, self.representative_rows))
                tflite_models.convert(
                    out.export(NETWORK),
                    {
                        name: (variant, out.export(name) / tflite_models.FILE)
                        for name, variant in self._names("tflite").items()
                    },
                    representative,
                    int8_io=self.int8_io,
                    layers=layers,
                )
        if self.tfjs:
            tfjs_models.convert(
                out.export(NETWORK),
                {name: (variant, out.export(name)) for name, variant in self._names("tfjs").items()},
                layers,
            )

    def _measured(
        self, network: tf_keras.Model, data: InputData, features: tuple[str, ...], out: ExportedModels
    ) -> dict[str, Export]:
        """Every export by name with its figures, TensorFlow Lite's run on the eval split in turns with the network itself."""
        function = signatures.network_function(network)
        interpreters = {
            name: tflite_models.Interpreter(name, out.export(name) / tflite_models.FILE)
            for name in self._names("tflite")
        }
        runs: dict[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {
            NETWORK: lambda found: function({name: found[name] for name in features}),
            **interpreters,
        }
        steps = self.eval_steps if self.eval_steps is not None else data.steps
        metrics = {name: scores.of(network, data.in_order(steps), run) for name, run in runs.items()}
        record = next(iter(replace(data, batch_size=1, label=None, weight=None).in_order(1)))
        # What TensorFlow Lite is called with are arrays; making them is no part of the call.
        arrays = {name: record[name].numpy() for name in features}
        calls = {name: functools.partial(run, record if name == NETWORK else arrays) for name, run in runs.items()}
        milliseconds = latency.medians_ms(calls)

        def figures(name: str) -> Figures:
            directory = out.export(name)
            return Figures(
                metrics=metrics.get(name, {}),
                bytes={"size": sizes.raw_bytes(directory), "compressed": sizes.compressed_directory(directory)},
                latency_ms=milliseconds.get(name),
            )

        exports = {
            name: Export(
                _WHAT[name], figures(name), *saved_model.tensors(out.export(name), saved_model.SERVING_DEFAULT)
            )
            for name in (PREPROCESSING, NETWORK, COMBINED)
        }
        for name, variant in self._names("tflite").items():
            exports[name] = Export(
                f"The network for TensorFlow Lite ({variant}), in the file `{tflite_models.FILE}`, signature serving_default.",
                figures(name),
                **interpreters[name].describe(),
            )
        for name, variant in self._names("tfjs").items():
            exports[name] = Export(
                f"The network for TensorFlow.js ({variant} weights), a graph model: tf.loadGraphModel('model.json').",
                figures(name),
                **tfjs_models.describe(out.export(name)),
            )
        return exports

    def _names(self, format_: str) -> dict[str, str]:
        """The exports of a format by name, with their variants."""
        return {f"{format_}_{variant}": variant for variant in getattr(self, format_)}

    def _limits(self) -> tuple[dict[str, list[Limit]], list[str]]:
        """The limits of each export by name, and what is wrong with them."""
        exports = {name: format_ for format_ in MEASURED for name in self._names(format_)}
        found: dict[str, list[Limit]] = {name: [] for name in exports}
        problems: list[str] = []
        for key, settings in self.thresholds.items():
            names = [name for name, format_ in exports.items() if key in (name, format_)]
            if not names:
                known_names = (*exports, *dict.fromkeys(exports.values()))
                hint = did_you_mean(key, known_names) or f" There are: {', '.join(known_names) or 'none'}"
                problems.append(f"thresholds.{key}: no such export is made.{hint}")
                continue
            format_ = exports[names[0]]
            bounds, wrong = limits.parse(f"thresholds.{key}", settings, MEASURED[format_])
            problems += wrong
            if format_ == "tfjs":
                problems += [
                    f"thresholds.{key}.{bound.of}: TensorFlow.js models are not run here, so that only their size is known"
                    for bound in bounds
                    if bound.of != "size"
                ]
            for name in names:
                found[name] += bounds
        return found, problems


_RAW = "Signature serving_default takes serialized tf.Examples, serving_columns one tensor per raw feature."
_WHAT = {
    PREPROCESSING: f"SavedModel of the preprocessing: raw features in, transformed features out. {_RAW}",
    NETWORK: "SavedModel of the network: transformed features in, predictions out. Signature serving_default takes them by name.",
    COMBINED: f"SavedModel of both, as it is evaluated and pushed: raw features in, predictions out. {_RAW}",
}


def _drawn(data: InputData, features: tuple[str, ...], rows: int) -> dict[str, Any]:
    """So many records of a split, drawn by chance: arrays [rows, ...] by feature."""
    import numpy as np

    batches = replace(data, label=None, weight=None).shuffled(
        DRAWN, 0, math.ceil(min(rows, data.rows) / data.batch_size)
    )
    parts = list(batches.as_numpy_iterator())
    return {name: np.concatenate([part[name] for part in parts])[:rows] for name in features}
