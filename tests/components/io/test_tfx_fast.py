"""Steps of TFX's for which ours make the same, and why not where they do not: as tables of settings, and as results."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.io.tfx_fast import swapped
from pipeline.contract import build_component
from schemas.dotted_path import resolve

TFX = "tfx.v1.components."
FILES = {"uses": TFX + "CsvExampleGen", "with": {"input_base": "data"}}


def splits(**weights: int) -> dict[str, Any]:
    written = [{"name": name, "hash_buckets": weight} for name, weight in weights.items()]
    return {"split_config": {"splits": written}}


def pattern(*patterns: str) -> dict[str, Any]:
    return {"splits": [{"name": f"in_{at}", "pattern": one} for at, one in enumerate(patterns)]}


def only(uses: str, **settings: Any) -> tuple[dict[str, Any], str]:
    """(the step that one becomes, what is said of it)."""
    steps, said = swapped({"step": {"uses": uses, "with": settings}})
    return steps["step"], said["step"]


CSV = [
    ({}, {"source": "data/*", "format": "csv", "splits": {"train": 2, "eval": 1}}),
    (
        {"input_config": pattern("*.csv"), "output_config": splits(train=3, eval=1, more=1)},
        {"source": "data/*.csv", "splits": {"train": 3, "eval": 1, "more": 1}},
    ),
    (
        {
            "output_config": {
                "split_config": {**splits(train=1, eval=1)["split_config"], "partition_feature_name": "key"}
            }
        },
        {"split_by": "key", "splits": {"train": 1, "eval": 1}},
    ),
    ({"input_config": pattern("span-{SPAN}/*")}, {"source": "data/span-{SPAN}/*"}),
    (
        {
            "input_config": pattern("{YYYY}-{MM}-{DD}/v{VERSION}/*"),
            "range_config": {"static_range": {"start_span_number": 20000, "end_span_number": 20000}},
        },
        {"source": "data/{YYYY}-{MM}-{DD}/v{VERSION}/*", "last_span": 20000},
    ),
    (
        {"input_config": pattern("{SPAN:3}/*"), "range_config": {"rolling_range": {"num_spans": 1}}},
        {"source": "data/{SPAN:3}/*"},
    ),
]


@pytest.mark.parametrize(("written", "expected"), CSV)
def test_a_CsvExampleGen_is_our_ExampleGen_of_the_same_files_and_splits(
    written: dict[str, Any], expected: dict[str, Any]
) -> None:
    step, said = only(TFX + "CsvExampleGen", input_base="data", **written)

    assert said == "ours for TFX's CsvExampleGen"
    assert step["uses"] == "components.data.example_gen.ExampleGen"
    assert step["inputs"] == {}
    assert {name: step["with"][name] for name in expected} == expected
    assert build_component(resolve(step["uses"]), step["with"])


NOT_CSV = [
    ({"input_config": pattern("train/*", "eval/*")}, "input_config: has 2 splits of files"),
    ({"input_config": pattern("**/*")}, "input_config: '**/*' is any directory to ours"),
    (
        {"output_config": splits(eval=1, train=2)},
        "TFX cuts the hash ranges in the order eval, train, and ours always train, eval",
    ),
    (
        {"output_config": splits(**{"train set": 2, "eval": 1})},
        "output_config: TFX cuts the hash ranges in the order train set, eval",
    ),
    ({"output_config": splits(**{"train set": 2})}, "ours would refuse it: splits: 'train set' cannot name a split"),
    (
        {
            "input_config": pattern("{SPAN}/*"),
            "range_config": {"static_range": {"start_span_number": 1, "end_span_number": 3}},
        },
        "range_config: begins and ends with different spans",
    ),
    (
        {"input_config": pattern("{SPAN}/*"), "range_config": {"rolling_range": {"num_spans": 3}}},
        "range_config: is not the newest span alone",
    ),
    (
        {"range_config": {"static_range": {"start_span_number": 1, "end_span_number": 1}}},
        "last_span: the source has no spans",
    ),
]


@pytest.mark.parametrize(("written", "why"), NOT_CSV)
def test_a_CsvExampleGen_that_ours_would_not_follow_stays_with_its_reason(written: dict[str, Any], why: str) -> None:
    step, said = only(TFX + "CsvExampleGen", input_base="data", **written)

    assert step == {"uses": TFX + "CsvExampleGen", "with": {"input_base": "data", **written}}
    assert said.startswith("TFX's own: ")
    assert why in said


@pytest.mark.parametrize("of", ["*", "{SPAN}/*"])
def test_a_CsvExampleGen_of_hidden_files_stays(tmp_path: Path, of: str) -> None:
    data = tmp_path / ".project" / "data"
    place = data / of.replace("{SPAN}", "7")
    place.parent.mkdir(parents=True)
    place.with_name("rows.csv").write_text("a\n1\n")

    _, said = only(TFX + "CsvExampleGen", input_base=str(data), input_config=pattern(of))
    assert said == "ours for TFX's CsvExampleGen"

    place.with_name(".rows.csv").write_text("a\n2\n")
    _, said = only(TFX + "CsvExampleGen", input_base=str(data), input_config=pattern(of))
    assert said.startswith(f"TFX's own: input_config: TFX reads {place.with_name('.rows.csv')} as well")


def test_an_ImportExampleGen_of_files_that_Beam_unpacks_and_ours_does_not_stays(tmp_path: Path) -> None:
    (tmp_path / "a.tfrecord.gz").touch()
    _, said = only(TFX + "ImportExampleGen", input_base=str(tmp_path))
    assert said == "ours for TFX's ImportExampleGen"

    (tmp_path / "b.tfrecord.bz2").touch()
    _, said = only(TFX + "ImportExampleGen", input_base=str(tmp_path))
    assert said == f"TFX's own: input_config: Beam unpacks {tmp_path}/b.tfrecord.bz2 by its name, and ours does not"


def test_an_ImportExampleGen_reads_tf_Examples_and_stays_for_anything_else() -> None:
    step, said = only(TFX + "ImportExampleGen", input_base="records")
    assert said == "ours for TFX's ImportExampleGen"
    assert (step["with"]["source"], step["with"]["format"]) == ("records/*", "tfrecord")

    _, said = only(TFX + "ImportExampleGen", input_base="records", payload_format=7)
    assert said == "TFX's own: output_data_format: ours knows tf.Examples alone"


def both(uses: str, example_gen: dict[str, Any] | None = None, **settings: Any) -> tuple[dict[str, Any], str]:
    """(the step that takes an ExampleGen's examples, what is said of it)."""
    taking = {"uses": uses, "with": settings, "inputs": {"examples": "example_gen.examples"}}
    steps, said = swapped({"example_gen": example_gen or FILES, "step": taking})
    return steps["step"], said["step"]


def test_a_StatisticsGen_keeps_what_it_excludes_and_takes_no_schema_that_it_is_not_wired_to() -> None:
    step, said = both(TFX + "StatisticsGen", exclude_splits=["eval"])

    assert said == "ours for TFX's StatisticsGen"
    assert step["uses"] == "components.data.statistics_gen.StatisticsGen"
    assert step["with"] == {"skip_splits": ("eval",)}
    assert step["inputs"] == {"examples": "example_gen.examples", "schema": None}


def test_a_StatisticsGen_that_excludes_a_split_that_may_not_be_there_stays() -> None:
    step, said = both(TFX + "StatisticsGen", exclude_splits=["test"])

    assert step["uses"] == TFX + "StatisticsGen"
    assert said.startswith("TFX's own: exclude_splits: ours refuses a split that is not there, and of test")


@pytest.mark.parametrize(("settings", "there"), [({}, True), ({"splits": {"all": 1}}, False), ({"splits": {}}, False)])
def test_the_splits_that_an_ExampleGen_of_ours_makes_can_be_excluded(settings: dict[str, Any], there: bool) -> None:
    example_gen = {"uses": "ExampleGen", "with": {"source": "trips.csv", **settings}, "inputs": {}}

    _, said = both(TFX + "StatisticsGen", example_gen=example_gen, exclude_splits=["eval"])

    assert said.startswith("ours for" if there else "TFX's own: exclude_splits")


def test_a_Pusher_of_ours_keeps_its_wires_where_the_Evaluator_before_it_is_swapped() -> None:
    inputs = {"model": "train.model", "blessing": "judge.blessing", "evaluation": None}
    pusher = {"uses": "components.release.pusher.Pusher", "with": {"destination": "serving"}, "inputs": inputs}
    judge = {"uses": TFX + "Evaluator", "with": {"eval_config": metric(**VALUE)}, "inputs": JUDGED}

    steps, said = swapped({"example_gen": FILES, "judge": judge, "pusher": pusher})

    assert said["judge"] == "ours for TFX's Evaluator"
    assert steps["pusher"] == pusher


def test_a_StatisticsGen_with_options_of_its_own_stays() -> None:
    import tensorflow_data_validation as tfdv
    from tfx.v1.components import StatisticsGen
    from tfx.v1.dsl import Channel
    from tfx.v1.types.standard_artifacts import Examples

    from components.io.tfx_settings import settings_of_node

    def said(options: Any) -> str:
        node = StatisticsGen(examples=Channel(Examples), stats_options=options)
        return both(TFX + "StatisticsGen", **settings_of_node(node))[1]

    assert said(tfdv.StatsOptions()) == "ours for TFX's StatisticsGen"
    assert said(tfdv.StatsOptions(num_top_values=3)).startswith("TFX's own: stats_options: ours counts with")


def test_examples_that_are_no_tf_Examples_keep_what_takes_them_TFX_s() -> None:
    sequences = {"uses": TFX + "ImportExampleGen", "with": {"input_base": "records", "payload_format": 7}}
    _, said = both(TFX + "StatisticsGen", sequences)
    assert said == "TFX's own: 'example_gen' makes its examples: output_data_format: ours knows tf.Examples alone"

    anything = {"uses": "tfx.v1.types.standard_artifacts.Examples", "with": {"source_uri": "examples"}}
    _, said = both(TFX + "StatisticsGen", anything)
    assert said == "TFX's own: 'example_gen' makes its examples, in a format that is known only when it has run"

    ours = {"uses": "ExampleGen", "with": {"source": "data/*.csv"}}
    assert both(TFX + "StatisticsGen", ours)[1] == "ours for TFX's StatisticsGen"


def transform(**settings: Any) -> tuple[dict[str, Any], str]:
    """As `both`, of a Transform with a schema."""
    taking = {"examples": "example_gen.examples", "schema": "schema_gen.schema"}
    steps, said = swapped(
        {"example_gen": FILES, "step": {"uses": TFX + "Transform", "with": settings, "inputs": taking}}
    )
    return steps["step"], said["step"]


def test_a_Transform_keeps_its_module_file_its_config_and_what_it_leaves_out(tmp_path: Path) -> None:
    (tmp_path / "features.py").write_text("def preprocessing_fn(inputs):\n    return inputs\n")
    file = str(tmp_path / "features.py")

    step, said = transform(module_file=file, custom_config={"rate": 0.5})

    assert said == "ours for TFX's Transform"
    assert step["uses"] == "components.features.transform.Transform"
    assert step["with"] == {
        "preprocessing_fn": file,
        "analyze_split": "train",
        "custom_config": {"rate": 0.5},
        "statistics": True,
        "materialize": True,
    }
    assert step["inputs"] == {
        "examples": "example_gen.examples",
        "schema": "schema_gen.schema",
        "analyzer_cache": None,
    }
    step, _ = transform(preprocessing_fn="features.preprocessing_fn", disable_statistics=True, materialize=False)
    assert step["with"]["preprocessing_fn"] == "features.preprocessing_fn"
    assert (step["with"]["statistics"], step["with"]["materialize"]) == (False, False)
    step, _ = transform(preprocessing_fn="f.x", splits_config={"analyze": ["eval"], "transform": ["train", "eval"]})
    assert step["with"]["analyze_split"] == "eval"


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"materialize": False}, "materialize: TFX transforms for the statistics alone"),
        ({"force_tf_compat_v1": True}, "force_tf_compat_v1: ours traces with TensorFlow 2 alone"),
        ({"stats_options_updater_fn": "f.updater"}, "stats_options_updater_fn: ours makes the statistics that TFX"),
        (
            {"splits_config": {"analyze": ["train", "eval"], "transform": ["train", "eval"]}},
            "analyzes 2 splits, and ours",
        ),
        (
            {"splits_config": {"analyze": ["train"], "transform": ["train"]}},
            "splits_config: transforms other splits than",
        ),
    ],
)
def test_a_Transform_that_ours_would_not_follow_stays_with_its_reason(settings: dict[str, Any], why: str) -> None:
    step, said = transform(preprocessing_fn="features.preprocessing_fn", **settings)

    assert step["uses"] == TFX + "Transform"
    assert said.startswith("TFX's own: ")
    assert why in said


@pytest.mark.parametrize(
    "text", ["def stats_options_updater_fn(stats_type, options):\n    return options\n", "from elsewhere import *\n"]
)
def test_a_module_file_that_may_change_the_statistics_keeps_its_Transform_TFX_s(tmp_path: Path, text: str) -> None:
    (tmp_path / "features.py").write_text(text)

    _, said = transform(module_file=str(tmp_path / "features.py"))

    assert said.endswith("features.py has, or may have, a stats_options_updater_fn, and ours knows none")


def metric(**threshold: Any) -> dict[str, Any]:
    """An EvalConfig with a metric that has this threshold."""
    spec = {"signature_name": "serving_default", "label_key": "tip"}
    return {"model_specs": [spec], "metrics_specs": [{"metrics": [{"class_name": "AUC", "threshold": threshold}]}]}


VALUE = {"value_threshold": {"lower_bound": 0.6}}
CHANGE = {"change_threshold": {"direction": "HIGHER_IS_BETTER", "absolute": 0.0}}
JUDGED = {"examples": "example_gen.examples", "model": "train.model"}


def evaluator(inputs: dict[str, str], **settings: Any) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """What becomes of an Evaluator, a Resolver of the latest blessed model and a Pusher."""
    return swapped(
        {
            "example_gen": FILES,
            "latest": {"uses": "components.io.tfx_nodes.LatestBlessedModel", "inputs": {"candidate": "train.model"}},
            "judge": {"uses": TFX + "Evaluator", "with": settings, "inputs": inputs},
            "pusher": {
                "uses": TFX + "Pusher",
                "with": {"push_destination": {"filesystem": {"base_directory": "serving"}}},
                "inputs": {"model": "train.model", "model_blessing": "judge.blessing"},
            },
        }
    )


def test_an_Evaluator_keeps_its_EvalConfig_and_compares_with_what_serves_where_a_Resolver_gave_that() -> None:
    steps, said = evaluator(JUDGED | {"baseline_model": "latest.model"}, eval_config=metric(**VALUE, **CHANGE))

    assert "latest" not in steps
    assert said["judge"] == "ours for TFX's Evaluator, which needs no latest"
    assert steps["judge"]["uses"] == "components.model.evaluator.Evaluator"
    assert steps["judge"]["inputs"] == JUDGED
    assert build_component(resolve(steps["judge"]["uses"]), steps["judge"]["with"])
    assert {name: steps["judge"]["with"][name] for name in ("split", "compare", "keras_metrics")} == {
        "split": "eval",
        "compare": True,
        "keras_metrics": True,
    }
    assert steps["pusher"]["inputs"]["evaluation"] == "judge.evaluation"


def test_an_Evaluator_without_a_baseline_compares_with_none() -> None:
    steps, said = evaluator(JUDGED, eval_config=metric(**VALUE), example_splits=["test"])

    assert said["judge"] == "ours for TFX's Evaluator"
    assert (steps["judge"]["with"]["split"], steps["judge"]["with"]["compare"]) == ("test", False)


def unsigned() -> dict[str, Any]:
    return metric(**VALUE) | {"model_specs": [{"label_key": "tip"}]}


@pytest.mark.parametrize(
    ("inputs", "settings", "why"),
    [
        ({}, {"eval_config": metric(**CHANGE)}, "eval_config: with bounds on change alone TFX blesses no first model"),
        ({}, {"eval_config": unsigned()}, "eval_config: without a signature_name TFMA may call a Keras model itself"),
        ({}, {}, "eval_config: has no metrics_specs"),
        ({}, {"eval_config": metric(**VALUE), "example_splits": ["a", "b"]}, "example_splits: a, b are several"),
        (
            {},
            {"eval_config": metric(**VALUE), "module_file": "f.py"},
            "module_file: ours has no functions of the user's",
        ),
        ({"schema": "schema_gen.schema"}, {"eval_config": metric(**VALUE)}, "'schema' is wired, and ours reads"),
        ({"model": ""}, {"eval_config": metric(**VALUE)}, "'model' is not wired, and ours needs it"),
        ({"baseline_model": "train.other"}, {"eval_config": metric(**VALUE)}, "'baseline_model' is train.other"),
    ],
)
def test_an_Evaluator_that_ours_would_not_follow_stays_with_its_reason(
    inputs: dict[str, str], settings: dict[str, Any], why: str
) -> None:
    wired = {port: wire for port, wire in (JUDGED | inputs).items() if wire}
    steps, said = evaluator(wired, **settings)

    assert steps["judge"]["uses"] == TFX + "Evaluator"
    assert why in said["judge"]
    assert steps["pusher"]["inputs"]["evaluation"] is None


def test_a_Pusher_pushes_to_the_same_directory_and_nothing_beside_the_model() -> None:
    to = {"push_destination": {"filesystem": {"base_directory": "serving/taxi"}}}
    pusher = {"uses": TFX + "Pusher", "with": to, "inputs": {"model": "train.model"}}
    judged = {**pusher, "inputs": {"model": "train.model", "model_blessing": "judge.blessing"}}

    steps, said = swapped({"pusher": pusher, "judged": judged})

    assert said == dict.fromkeys(("pusher", "judged"), "ours for TFX's Pusher")
    assert steps["pusher"]["uses"] == "components.release.pusher.Pusher"
    assert steps["pusher"]["with"] == {
        "destination": "serving/taxi",
        "require_blessing": False,
        "keep": None,
        "warmup_requests": 0,
    }
    assert steps["judged"]["with"]["require_blessing"]
    unwired = dict.fromkeys(("infra_blessing", "evaluation", "examples", "statistics"))
    assert steps["judged"]["inputs"] == {"model": "train.model", "blessing": "judge.blessing", **unwired}


def test_a_Pusher_of_another_kind_stays() -> None:
    to = {"push_destination": {"filesystem": {"base_directory": "serving"}}}
    step = {"uses": TFX + "Pusher", "with": to, "inputs": {"model": "train.model"}}
    reading = {"uses": TFX + "BulkInferrer", "inputs": {"examples": "e.examples", "model": "pusher.pushed_model"}}

    _, said = swapped({"pusher": {**step, "with": {**to, "custom_config": {"a": 1}}}})
    assert said["pusher"] == "TFX's own: custom_config: ours has none"
    _, said = swapped({"pusher": {**step, "inputs": {"infra_blessing": "validator.blessing"}}})
    assert said["pusher"] == "TFX's own: 'model' is not wired, and ours needs it"
    _, said = swapped({"pusher": step, "reading": reading})
    assert said["pusher"].startswith("TFX's own: 'reading' takes its pushed_model")


OWN = """
from tfx import v1 as tfx
from tfx.components.example_gen.csv_example_gen import executor
from tfx.dsl.components.base import executor_spec


class OwnExecutor(executor.Executor):
    pass


class OwnGen(tfx.components.CsvExampleGen):
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(OwnExecutor)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module with a CsvExampleGen of a user's own."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_gen_of_mine.py").write_text(OWN)
    yield "own_gen_of_mine"
    sys.modules.pop("own_gen_of_mine", None)


def test_what_is_derived_from_TFX_s_or_has_another_executor_stays(own: str) -> None:
    from tfx.components.example_gen.component import FileBasedExampleGen
    from tfx.dsl.components.base.executor_spec import BeamExecutorSpec

    from components.io.tfx_settings import settings_of_node

    _, said = only(f"{own}.OwnGen", input_base="data")
    assert said == f"TFX's own: {own}.OwnGen is derived from it and may do something else"
    executor = resolve(f"{own}.OwnExecutor")
    node = FileBasedExampleGen(input_base="data", custom_executor_spec=BeamExecutorSpec(executor))
    _, said = only("tfx.components.FileBasedExampleGen", **settings_of_node(node))
    assert said == f"TFX's own: ours cannot read what {own}.OwnExecutor reads"


def test_steps_of_ours_are_left_alone_and_a_wrong_one_of_TFX_s_to_whoever_checks_it() -> None:
    steps = {
        "example_gen": {"uses": "ExampleGen", "with": {"source": "data/*.csv"}},
        "wrong": {"uses": TFX + "CsvExampleGen", "with": {"input_bas": "data"}},
        "missing": {"uses": TFX + "NoSuchGen", "with": {}},
        "schema_gen": {"uses": TFX + "SchemaGen", "cache": False},
    }

    assert swapped(steps) == (steps, {"schema_gen": "TFX's own: --fast swaps nothing for SchemaGen"})


def test_what_else_a_step_says_stays_with_it() -> None:
    beam = {"runner": "FlinkRunner", "args": ["--parallelism=2"]}
    steps, _ = swapped({"gen": {**FILES, "beam": beam, "cache": False, "resources": {"memory": "2Gi"}}})

    assert {name: steps["gen"][name] for name in ("beam", "cache", "resources")} == {
        "beam": beam,
        "cache": False,
        "resources": {"memory": "2Gi"},
    }
    assert json.dumps(steps)
