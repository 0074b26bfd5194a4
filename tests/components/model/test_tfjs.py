"""TensorFlow.js graph models: loaded in Node they answer as the network does."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from components.io import saved_model, tfrecord
from components.model import tfjs
from components.model.exporter import Exporter
from components.model.input_data import transformed_spec
from schemas.artifacts import ExportedModels, Model, TransformedExamples, TransformGraph
from schemas.component import Lineage
from schemas.errors import ConfigError, TooMuchLost

HERE = Path(__file__).parent / "tfjs"
in_node = [
    pytest.mark.node,
    pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="node or npm is not installed"),
    pytest.mark.skipif(not tfjs.is_installed(), reason="the extra tfjs is not installed"),
]


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory,
    small_model: Model,
    xf_graph: TransformGraph,
    xf_transformed: TransformedExamples,
) -> ExportedModels:
    """Both variants, one of which is refused as too large and kept."""
    exported = ExportedModels(tmp_path_factory.mktemp("exported"))
    exporter = Exporter(tflite=(), tfjs=("float", "uint8"), thresholds={"tfjs_uint8": {"size": {"max_kb": 1}}})
    with pytest.raises(TooMuchLost, match="tfjs_uint8: size .* is above 1 kB"):
        exporter.run(small_model, xf_graph, xf_transformed, lineage=Lineage(), exported_models=exported)
    return exported


@pytest.fixture(scope="module")
def node_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """predict.js, with @tensorflow/tfjs as package-lock.json has it."""
    directory = tmp_path_factory.mktemp("node")
    for file in ("package.json", "package-lock.json", "predict.js"):
        shutil.copy(HERE / file, directory)
    # --ignore-scripts: nothing that is downloaded runs here but the library itself.
    subprocess.run(
        ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=directory, check=True, capture_output=True
    )
    return directory / "predict.js"


@pytest.mark.parametrize(
    ("variant", "tolerance"),
    [pytest.param("float", 1e-5, marks=in_node), pytest.param("uint8", 0.02, marks=in_node)],
)
def test_a_graph_model_answers_in_node_as_the_network_does(
    tmp_path, exported, node_program, xf_graph, xf_transformed, variant, tolerance
):
    import numpy as np
    import tensorflow as tf

    spec = transformed_spec(xf_graph)
    parsed = tf.io.parse_example(list(tfrecord.read(xf_transformed.files("eval")[0])), spec)
    network = saved_model.load(exported.export("network")).signatures["serving_default"]
    names = network.structured_input_signature[1]
    expected = network(**{name: parsed[name] for name in names})["probabilities"].numpy()
    given: dict[str, Any] = {
        name: {"type": "int32" if parsed[name].dtype.is_integer else "float32", "values": parsed[name].numpy().tolist()}
        for name in names
    }
    file = tmp_path / "inputs.json"
    file.write_text(json.dumps(given), encoding="utf-8")

    ended = subprocess.run(
        ["node", str(node_program), str(exported.export(f"tfjs_{variant}")), str(file)],
        capture_output=True,
        check=False,
        text=True,
    )

    assert ended.returncode == 0, ended.stderr
    found = np.array(json.loads(ended.stdout.splitlines()[-1]))
    assert np.abs(found - expected).max() < tolerance
    assert expected.std() > 0.01


@pytest.mark.skipif(not tfjs.is_installed(), reason="the extra tfjs is not installed")
def test_the_report_has_inputs_outputs_and_sizes(exported):
    report = json.loads(exported.report.read_text(encoding="utf-8"))["exports"]

    assert report["tfjs_float"]["inputs"] == report["tfjs_uint8"]["inputs"]
    assert {found["name"]: found["type"] for found in report["tfjs_float"]["inputs"]} == {
        "fare_xf": "float32",
        "payment_type_xf": "int32",
        "trip_miles_xf": "float32",
    }
    assert [found["name"] for found in report["tfjs_float"]["outputs"]] == ["probabilities"]
    weights = {
        name: (exported.export(name) / "group1-shard1of1.bin").stat().st_size for name in ("tfjs_float", "tfjs_uint8")
    }
    assert weights["tfjs_uint8"] < 0.3 * weights["tfjs_float"]
    assert "First: Preprocess" in (exported.export("tfjs_float") / "README.txt").read_text(encoding="utf-8")


def test_without_the_extra_the_definition_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflowjs", None)

    with pytest.raises(
        ConfigError, match="tfjs: TensorFlow.js is not installed here. Install it with `uv sync --extra"
    ):
        Exporter(tfjs=("float",))


def test_thresholds_of_a_model_that_is_not_run_are_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflowjs", None)

    with pytest.raises(ConfigError, match=r"thresholds.tfjs.auc: TensorFlow.js models are not run here"):
        Exporter(tfjs=("float",), thresholds={"tfjs": {"auc": {"min": 0.5}}})
