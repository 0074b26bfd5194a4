"""Transform against TFX's own executor, and what it says of mistakes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.data.example_gen import ExampleGen
from components.data.example_validator import ExampleValidator
from components.data.schema_gen import ImportSchema
from components.data.statistics_gen import StatisticsGen
from components.features.preprocessing import RawFeatures
from components.features.raw_features import read_schema
from components.features.transform import Transform
from components.io import tfrecord
from components.io import tfx as tfx_io
from pipeline.contract import read_contract
from pipeline.definition import Pipeline
from schemas.artifacts import Examples, FeatureSchema, TransformedExamples, TransformGraph
from schemas.component import BeamOptions, Progress
from schemas.errors import ConfigError, DataError, UnknownSplit, UserCodeError

TAXI = "configs.taxi.features.preprocessing_fn"


@pytest.fixture(scope="session")
def transform(outputs_of: Callable[[type, Path], dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """(directory, examples, schema, function, settings) -> what Transform makes of them, in new directories."""

    def make(
        directory: Path, examples: Examples, schema: FeatureSchema, function: str = TAXI, **settings: Any
    ) -> dict[str, Any]:
        outputs = outputs_of(Transform, directory / "ours")
        Transform(preprocessing_fn=function, **settings).run(examples, schema, BeamOptions(), Progress(), **outputs)
        return outputs

    return make


def tfx_transform(
    directory: Path, examples: Examples, schema: FeatureSchema, function: str, pipeline: Callable[[], Any]
) -> dict[str, Any]:
    """What TFX's Transform executor makes of the same artifacts, with its defaults."""
    from tfx.components.transform.executor import Executor
    from tfx.types import standard_artifacts, standard_component_specs

    ours = {name: kind(directory / "theirs" / name) for name, kind in read_contract(Transform).outputs.items()}
    theirs = {name: getattr(standard_artifacts, artifact.TYPE_NAME)() for name, artifact in ours.items()}
    for name, artifact in theirs.items():
        artifact.uri = str(ours[name].path)
    their_schema = standard_artifacts.Schema()
    their_schema.uri = str(schema.path)
    executor = Executor(
        Executor.Context(make_beam_pipeline_fn=pipeline, tmp_dir=str(directory / "tfx_tmp"), unique_id="1")
    )
    executor.Do(
        {"examples": [tfx_io.tfx_examples(examples)], "schema": [their_schema]},
        {name: [artifact] for name, artifact in theirs.items()},
        {standard_component_specs.PREPROCESSING_FN_KEY: function},
    )
    return ours


def columns(graph: TransformGraph, transformed: TransformedExamples, split: str) -> dict[str, Any]:
    """Every transformed feature of a split as one array; the rows sorted, since TFX's Beam writes them in any order."""
    import numpy as np
    import tensorflow as tf
    import tensorflow_transform as tft

    spec = tft.TFTransformOutput(str(graph.path)).transformed_feature_spec()
    records = [record for file in transformed.files(split) for record in tfrecord.read(file)]
    parsed = {name: value.numpy() for name, value in tf.io.parse_example(records, spec).items()}
    order = np.lexsort([np.round(values, 3) for _, values in sorted(parsed.items())])
    return {name: values[order] for name, values in parsed.items()}


def assert_equal(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Vocabularies, both schemas, and every transformed value."""
    import numpy as np

    graphs, examples = [[made[name] for made in (ours, theirs)] for name in ("transform_graph", "transformed_examples")]
    found, expected = [{file.name: file for file in (graph.transform_fn / "assets").iterdir()} for graph in graphs]
    assert found.keys() == expected.keys()
    assert len(found) == 2
    for name, file in expected.items():
        assert found[name].read_bytes() == file.read_bytes()
    assert len({read_schema(graph.transformed_schema).SerializeToString() for graph in graphs}) == 1
    assert len({read_schema(graph.raw_schema).SerializeToString() for graph in graphs}) == 1
    assert examples[0].splits == examples[1].splits == ("train", "eval")
    for split in examples[0].splits:
        found, expected = [columns(graph, one, split) for graph, one in zip(graphs, examples, strict=True)]
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            if values.dtype.kind == "f":
                # A mean over batches of another size differs in the last bits.
                np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-5)
            else:
                np.testing.assert_array_equal(found[name], values)


@pytest.fixture(scope="module")
def tfx_of_ours(
    tmp_path_factory: pytest.TempPathFactory,
    xf_examples: Examples,
    xf_schema: FeatureSchema,
    beam_in_memory: Callable[[], Any],
) -> dict[str, Any]:
    """TFX's Transform on 300 trips of ours."""
    return tfx_transform(tmp_path_factory.mktemp("tfx"), xf_examples, xf_schema, TAXI, beam_in_memory)


@pytest.mark.slow
def test_graph_schemas_and_values_are_those_of_TFX_on_our_examples(xf_outputs, tfx_of_ours):
    assert_equal(xf_outputs, tfx_of_ours)


A_MILLIONTH = 1e-6  # what is transformed differs in the last bits of a float32, and its moments with it


def assert_equal_reports(ours: dict[str, Any], theirs: dict[str, Any], assert_equal_statistics: Any) -> None:
    """What is said of the data before the transformation and after."""
    assert_equal_statistics(ours["pre_transform_stats"].file, theirs["pre_transform_stats"].file)
    assert_equal_statistics(
        ours["post_transform_stats"].file, theirs["post_transform_stats"].file, A_MILLIONTH, A_MILLIONTH
    )
    for name in ("pre_transform_schema", "post_transform_schema", "post_transform_anomalies"):
        assert ours[name].file.read_bytes() == theirs[name].file.read_bytes(), name


def test_statistics_schemas_and_anomalies_are_those_of_TFX(xf_outputs, tfx_of_ours, assert_equal_statistics):
    assert_equal_reports(xf_outputs, tfx_of_ours, assert_equal_statistics)


@pytest.mark.slow
def test_in_the_place_of_TFX_s_it_makes_all_the_same_of_a_module_file_and_TFX_s_own_artifacts(
    both_ways, assert_equal_statistics, tmp_path, tfx_testdata
):
    examples, schema = Examples(tmp_path / "examples"), FeatureSchema(tfx_testdata / "schema_gen")
    for split in ("train", "eval"):
        shutil.copytree(tfx_testdata / "csv_example_gen" / f"Split-{split}", examples.split_path(split))
    module_file = tfx_testdata.parents[1] / "examples/chicago_taxi_pipeline/taxi_utils_native_keras.py"
    step = {
        "uses": "tfx.v1.components.Transform",
        "with": {"module_file": str(module_file)},
        "inputs": {"examples": "example_gen.examples", "schema": "schema_gen.schema"},
    }

    ours, theirs = both_ways(tmp_path, step, {"example_gen.examples": examples, "schema_gen.schema": schema})

    assert_equal(ours, theirs)
    assert_equal_reports(ours, theirs, assert_equal_statistics)


def test_the_graph_opens_in_TFTransformOutput(xf_graph):
    import tensorflow_transform as tft

    output = tft.TFTransformOutput(str(xf_graph.path))

    assert output.transformed_feature_spec().keys() >= {"fare_xf", "payment_type_xf", "big_tip"}
    assert output.raw_feature_spec().keys() >= {"fare", "tips"}
    assert output.vocabulary_by_name("payment_type")[0] in (b"Cash", b"Credit Card")
    assert xf_graph.properties == {"features": 15}


def test_a_shard_becomes_the_shard_of_the_same_number_with_its_records_in_order(
    tmp_path, xf_examples, xf_schema, xf_graph, xf_transformed
):
    import tensorflow as tf

    records = list(tfrecord.read(xf_examples.files("train")[0]))
    hours = [tf.train.Example.FromString(r).features.feature["trip_start_hour"].int64_list.value[0] for r in records]
    (file,) = xf_transformed.files("train")
    transformed = [tf.train.Example.FromString(r).features.feature["trip_start_hour_xf"] for r in tfrecord.read(file)]

    assert file.name == "transformed_examples-00000-of-00001.gz"
    assert [feature.int64_list.value[0] for feature in transformed] == hours
    assert xf_transformed.properties["records"] == xf_examples.properties["records"]


@pytest.fixture(scope="module")
def without_eval(
    transform: Callable[..., dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
    xf_examples: Examples,
    xf_schema: FeatureSchema,
) -> TransformedExamples:
    """The same train split transformed once more, beside an eval split without records."""
    examples = Examples(tmp_path_factory.mktemp("without_eval"))
    shutil.copytree(xf_examples.split("train"), examples.split_path("train"))
    examples.split_path("eval").mkdir()
    tfrecord.write(examples.split("eval") / "data_tfrecord-00000-of-00001.gz", [])
    return transform(tmp_path_factory.mktemp("again"), examples, xf_schema)["transformed_examples"]


def test_equal_input_gives_equal_files(without_eval, xf_transformed):
    (first,), (second,) = xf_transformed.files("train"), without_eval.files("train")

    assert first.read_bytes() == second.read_bytes()


def test_without_materialize_there_are_no_records_and_no_statistics_of_them_and_the_rest_is_the_same(
    transform, tmp_path, xf_examples, xf_schema, xf_outputs
):
    made = transform(tmp_path, xf_examples, xf_schema, materialize=False)

    transformed = made["transformed_examples"]
    assert transformed.properties == {"materialized": False}
    assert not transformed.materialized
    assert transformed.describe() == "not materialized"
    assert [list(tfrecord.read(file)) for split in ("train", "eval") for file in transformed.files(split)] == [[], []]
    for name in ("post_transform_schema", "post_transform_stats", "post_transform_anomalies"):
        assert list(made[name].path.iterdir()) == []
    for name in ("pre_transform_stats", "pre_transform_schema"):
        assert made[name].file.read_bytes() == xf_outputs[name].file.read_bytes()
    for file in ("transformed_metadata/schema.pbtxt", "transform_fn/assets/company"):
        ours, theirs = (one["transform_graph"].path / file for one in (made, xf_outputs))
        assert ours.read_bytes() == theirs.read_bytes()


def test_nothing_but_the_layout_of_TFX_is_left_in_the_graph(xf_graph):
    assert sorted(p.name for p in xf_graph.path.iterdir()) == ["metadata", "transform_fn", "transformed_metadata"]


def test_an_empty_split_becomes_a_split_with_a_file_without_records(without_eval):
    assert [list(tfrecord.read(file)) for file in without_eval.files("eval")] == [[]]
    assert without_eval.properties["records"]["eval"] == 0


def test_a_feature_that_is_not_in_the_schema_is_named_with_what_there_is(
    transform, tmp_path, user_module, xf_examples, xf_schema
):
    function = user_module("def preprocessing_fn(inputs):\n    return {'x': inputs['fair']}\n", "preprocessing_fn")

    with pytest.raises(DataError, match=r"no raw feature 'fair'. Did you mean 'fare'\? The schema has: company, "):
        transform(tmp_path, xf_examples, xf_schema, function)


def test_what_is_asked_of_raw_features_otherwise_is_answered_as_a_dict_does():
    features = RawFeatures(fare=1)

    assert "fair" not in features
    assert features.get("fair", 2) == 2
    assert features | {"tips": 3} == {"fare": 1, "tips": 3}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("pass", "returned nothing: it must return a dict of transformed features"),
        ("return {}", "returned an empty dict"),
        ("return [inputs['fare']]", "returned a list"),
        ("return {'fare': 1, 'company': inputs['company']}", "'fare' is a int: it must return"),
        ("return {3: inputs['fare']}", "the name 3 is not a string"),
    ],
)
def test_a_function_that_gives_no_tensors_is_told_so(
    transform, tmp_path, user_module, xf_examples, xf_schema, body, message
):
    function = user_module(f"def preprocessing_fn(inputs):\n    {body}\n", "preprocessing_fn")

    with pytest.raises(UserCodeError, match=message):
        transform(tmp_path, xf_examples, xf_schema, function)


def test_an_exception_of_the_users_arrives_as_it_was_raised(transform, tmp_path, user_module, xf_examples, xf_schema):
    function = user_module("def preprocessing_fn(inputs):\n    raise LookupError('mine')\n", "preprocessing_fn")

    with pytest.raises(LookupError, match="^'?mine'?$") as caught:
        transform(tmp_path, xf_examples, xf_schema, function)

    assert Path(caught.traceback[-1].path).stem == function.split(".")[0]


def test_custom_config_reaches_a_function_that_asks_for_it(transform, tmp_path, user_module, xf_examples, xf_schema):
    function = user_module(
        "def preprocessing_fn(inputs, custom_config):\n    return {custom_config['as']: inputs[custom_config['take']]}\n",
        "preprocessing_fn",
    )

    outputs = transform(
        tmp_path, xf_examples, xf_schema, function, custom_config={"as": "hour", "take": "trip_start_hour"}
    )

    transformed = read_schema(outputs["transform_graph"].transformed_schema)
    assert [feature.name for feature in transformed.feature] == ["hour"]


def test_an_unknown_split_is_refused(transform, tmp_path, xf_examples, xf_schema):
    with pytest.raises(UnknownSplit, match=r"no split 'trian'.* Did you mean 'train'\?"):
        transform(tmp_path, xf_examples, xf_schema, analyze_split="trian")


def test_there_is_nothing_to_learn_from_a_split_without_records(transform, tmp_path, xf_schema):
    examples = Examples(tmp_path / "examples")
    examples.split_path("train").mkdir(parents=True)
    tfrecord.write(examples.split("train") / "data_tfrecord-00000-of-00001.gz", [])

    with pytest.raises(DataError, match="split 'train' of .* has no records"):
        transform(tmp_path, examples, xf_schema)


def test_a_record_without_a_value_where_the_schema_says_there_is_one_is_an_error_of_the_data(
    transform, tmp_path, user_module, xf_schema
):
    import tensorflow as tf

    function = user_module("def preprocessing_fn(inputs):\n    return {'x': inputs['fare']}\n", "preprocessing_fn")
    examples = Examples(tmp_path / "examples")
    examples.split_path("train").mkdir(parents=True)
    record = tf.train.Example().SerializeToString()
    tfrecord.write(examples.split("train") / "data_tfrecord-00000-of-00001.gz", [record])

    with pytest.raises(DataError, match=r"feature '\w+' has 0 values in 1 of 1 records, where the schema says 1"):
        transform(tmp_path, examples, xf_schema, function)


def test_values_of_another_type_than_in_the_schema_are_an_error_of_the_data(
    transform, tmp_path, user_module, xf_examples, xf_schema
):
    text = xf_schema.file.read_text(encoding="utf-8")
    fare = text.index("type: FLOAT", text.index('name: "fare"'))
    changed = FeatureSchema(tmp_path / "schema")
    changed.path.mkdir()
    changed.file.write_text(text[:fare] + text[fare:].replace("FLOAT", "BYTES", 1).replace("float_domain", "#", 1))
    function = user_module("def preprocessing_fn(inputs):\n    return {'x': inputs['fare']}\n", "preprocessing_fn")

    with pytest.raises(DataError, match=r"data_tfrecord.*: its records do not fit the schema"):
        transform(tmp_path, xf_examples, changed, function)


def test_every_wrong_setting_is_named_at_once():
    with pytest.raises(ConfigError) as caught:
        Transform(preprocessing_fn="preprocess", analyze_split="")

    assert [problem.split(":")[0] for problem in caught.value.problems] == ["preprocessing_fn", "analyze_split"]


def test_steps_below_still_find_the_statistics_the_schema_and_the_anomalies_of_the_pipeline_by_themselves():
    pipeline = Pipeline(name="wires")
    examples = pipeline.step("example_gen", ExampleGen(source="trips.csv")).examples
    pipeline.step("statistics_gen", StatisticsGen())
    pipeline.step("schema_gen", ImportSchema(path="schema.pbtxt"))
    transform = pipeline.step("transform", Transform(preprocessing_fn=TAXI))
    pipeline.step("example_validator", ExampleValidator())
    pipeline.step("apart", Transform(preprocessing_fn=TAXI), examples=examples)
    cache = transform.updated_analyzer_cache
    pipeline.step("again", Transform(preprocessing_fn=TAXI), examples=examples, analyzer_cache=cache)

    graph = pipeline.definition().graph

    of_transform = {"examples": "example_gen.examples", "schema": "schema_gen.schema"}
    for step, expected in {
        "example_validator": {"statistics": "statistics_gen.statistics", "schema": "schema_gen.schema"},
        "apart": of_transform,
        "again": {**of_transform, "analyzer_cache": "transform.updated_analyzer_cache"},
    }.items():
        assert {port: str(wire) for port, wire in graph[step].inputs.items()} == expected
