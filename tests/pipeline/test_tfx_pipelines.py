"""A TFX pipeline as it is becomes a definition: steps, wires, parameters, what is not followed, and what cannot run."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cli.check import check_pipeline
from pipeline.cli.plan import plan_pipeline
from pipeline.contract import read_contract
from pipeline.fingerprint import code_closure
from pipeline.loading import load
from pipeline.plan import make_plan
from pipeline.store import Store
from schemas.dotted_path import resolve
from schemas.errors import ConfigError

TAXI = "tfx.examples.chicago_taxi_pipeline.taxi_pipeline_native_keras:_create_pipeline"

MODULE = """
from tfx import v1 as tfx
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.placeholder import placeholder as ph
from tfx.types import standard_artifacts
from tfx.types.channel_utils import union

RuntimeParameter = tfx.dsl.experimental.RuntimeParameter


def made(components, **arguments):
    return tfx.dsl.Pipeline(pipeline_name="my_pipeline", components=components, enable_cache=True, **arguments)


def small(data="data"):
    example_gen = tfx.components.CsvExampleGen(input_base=data)
    statistics_gen = tfx.components.StatisticsGen(examples=example_gen.outputs["examples"])
    statistics_gen.with_beam_pipeline_args(["--runner=FlinkRunner", "--parallelism=2"])
    return [example_gen, statistics_gen]


def create(data="data"):
    return made(small(data))


def not_cached():
    return tfx.dsl.Pipeline(pipeline_name="7 wonders", pipeline_root="gs://elsewhere", components=small())


def imported():
    importer = tfx.dsl.Importer(
        source_uri="curated", artifact_type=standard_artifacts.Schema, properties={}, custom_properties={"by": "hand"}
    ).with_id("import_schema")
    example_gen, statistics_gen = small()
    validator = tfx.components.ExampleValidator(
        statistics=statistics_gen.outputs["statistics"], schema=importer.outputs["result"]
    )
    return made([validator, statistics_gen, importer, example_gen])


def with_parameter():
    (example_gen, statistics_gen) = small()
    schema_gen = tfx.components.SchemaGen(statistics=statistics_gen.outputs["statistics"])
    transform = tfx.components.Transform(
        examples=example_gen.outputs["examples"],
        schema=schema_gen.outputs["schema"],
        module_file=RuntimeParameter(name="module_file", ptype=str, default="features.py"),
        materialize=False,
    )
    return made([example_gen, statistics_gen, schema_gen, transform])


def with_nested_parameters(required=False):
    importer = tfx.dsl.Importer(
        source_uri=RuntimeParameter(name="curated", ptype=str, default=None if required else "curated"),
        artifact_type=standard_artifacts.Schema,
    ).with_id("import_schema")
    (example_gen, statistics_gen) = small()
    trainer = tfx.components.Trainer(
        examples=example_gen.outputs["examples"],
        schema=importer.outputs["result"],
        module_file="features.py",
        train_args=RuntimeParameter(name="train_args", ptype=str, default='{"num_steps": 7}'),
        eval_args=tfx.proto.EvalArgs(num_steps=1),
        custom_config={"rate": RuntimeParameter(name="rate", ptype=float, default=0.5), "why": "not"},
    )
    return made([importer, example_gen, statistics_gen, trainer])


def required():
    return with_nested_parameters(required=True)


def warm_start():
    (example_gen, statistics_gen) = small()
    resolver = Resolver(
        strategy_class=tfx.dsl.experimental.LatestBlessedModelStrategy,
        model=tfx.dsl.Channel(type=standard_artifacts.Model),
        model_blessing=tfx.dsl.Channel(type=standard_artifacts.ModelBlessing),
    ).with_id("latest")
    trainer = tfx.components.Trainer(
        examples=example_gen.outputs["examples"],
        base_model=resolver.outputs["model"],
        module_file="features.py",
        train_args=tfx.proto.TrainArgs(num_steps=1),
        eval_args=tfx.proto.EvalArgs(num_steps=1),
    )
    evaluator = tfx.components.Evaluator(
        examples=example_gen.outputs["examples"],
        model=trainer.outputs["model"],
        baseline_model=resolver.outputs["model"],
    )
    return made([example_gen, resolver, trainer, evaluator])


def same_ids():
    return made(
        [
            tfx.components.CsvExampleGen(input_base="data").with_id("example-gen"),
            tfx.components.CsvExampleGen(input_base="data").with_id("ExampleGen"),
        ]
    )


LATEST = tfx.dsl.experimental.LatestArtifactStrategy
SPANS = tfx.dsl.experimental.SpanRangeStrategy


class OwnStrategy(LATEST):
    pass


def latest_artifacts():
    resolver = Resolver(
        strategy_class=LATEST,
        examples=tfx.dsl.Channel(type=standard_artifacts.Examples, producer_component_id="CsvExampleGen", output_key="examples"),
        schema=tfx.dsl.Channel(type=standard_artifacts.Schema, producer_component_id="Schema-Of-Others"),
    ).with_id("latest")
    (example_gen, statistics_gen) = small()
    validator = tfx.components.ExampleValidator(
        statistics=statistics_gen.outputs["statistics"], schema=resolver.outputs["schema"]
    )
    return made([resolver, example_gen, statistics_gen, validator])


def resolved(strategy, config=None, channel=None):
    channel = channel or tfx.dsl.Channel(type=standard_artifacts.Examples)
    return made([Resolver(strategy_class=strategy, config=config, examples=channel).with_id("latest")])


def own_strategy():
    return resolved(OwnStrategy)


def spans():
    return resolved(SPANS, {"range_config": tfx.proto.RangeConfig(rolling_range=tfx.proto.RollingRange(num_spans=2))})


def several():
    return resolved(LATEST, {"desired_num_of_artifacts": 2})


def of_this_run():
    example_gen = small()[0]
    resolver = Resolver(strategy_class=LATEST, examples=example_gen.outputs["examples"]).with_id("latest")
    return made([example_gen, resolver])


def joined():
    one = tfx.components.CsvExampleGen(input_base="one").with_id("one")
    two = tfx.components.CsvExampleGen(input_base="two").with_id("two")
    statistics = tfx.components.StatisticsGen(examples=union([one.outputs["examples"], two.outputs["examples"]]))
    return made([one, two, statistics])


def conditional():
    (example_gen, statistics_gen) = small()
    fine = statistics_gen.outputs["statistics"].future()[0].custom_property("fine")
    pusher = tfx.components.Pusher(
        model=imported_model().outputs["result"],
        push_destination=tfx.proto.PushDestination(filesystem={"base_directory": "serving"}),
    )
    with tfx.dsl.Cond(fine == 1):
        schema_gen = tfx.components.SchemaGen(statistics=statistics_gen.outputs["statistics"])
        curated = tfx.dsl.Importer(source_uri="curated", artifact_type=standard_artifacts.Schema).with_id("curated")
        with tfx.dsl.Cond(fine > 2):
            validator = tfx.components.ExampleValidator(
                statistics=statistics_gen.outputs["statistics"], schema=curated.outputs["result"]
            )
    return made([pusher.inputs["model"].producer_component, pusher, example_gen, statistics_gen, schema_gen, curated, validator])


def imported_model():
    return tfx.dsl.Importer(source_uri="curated", artifact_type=standard_artifacts.Model).with_id("import_model")


def on_nothing():
    (example_gen, statistics_gen) = small()
    with tfx.dsl.Cond(ph.exec_property("fine") == 1):
        schema_gen = tfx.components.SchemaGen(statistics=statistics_gen.outputs["statistics"])
    return made([example_gen, statistics_gen, schema_gen])


def fails():
    raise KeyError("settings")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with a module of TFX pipelines, their data and a module file with a helper beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    (tmp_path / "tfx_pipelines_of_mine.py").write_text(MODULE)
    for directory in ("data", "one", "two"):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / "data.csv").write_text("a,b\n1,x\n2,y\n3,z\n")
    (tmp_path / "curated").mkdir()
    (tmp_path / "curated" / "schema.pbtxt").write_text("")
    (tmp_path / "features.py").write_text(
        "import scaling_beside\n\n\ndef preprocessing_fn(inputs):\n    return inputs\n"
    )
    (tmp_path / "scaling_beside.py").write_text("FACTOR = 2\n")
    yield tmp_path
    sys.modules.pop("tfx_pipelines_of_mine", None)


def target(name: str) -> str:
    return f"tfx_pipelines_of_mine:{name}"


def taxi(directory: Path) -> list[str]:
    """The arguments of TFX's own taxi example."""
    return [
        "parameters.pipeline_name=chicago_taxi_native_keras",
        f"parameters.pipeline_root={directory / 'nowhere'}",
        f"parameters.metadata_path={directory / 'nowhere' / 'metadata.db'}",  # whose directory TFX makes
        f"parameters.data_root={directory / 'data'}",
        f"parameters.module_file={directory / 'features.py'}",
        f"parameters.serving_model_dir={directory / 'serving'}",
        "parameters.beam_pipeline_args=[--direct_num_workers=1]",
    ]


def test_the_taxi_example_of_TFX_is_a_graph_with_its_wires_and_nothing_more(module: Path) -> None:
    graph = load(TAXI, taxi(module)).graph

    assert graph.name == "chicago-taxi-native-keras"
    assert [step.id for step in graph.steps] == [
        "csv_example_gen",
        "statistics_gen",
        "schema_gen",
        "example_validator",
        "transform",
        "trainer",
        "latest_blessed_model_resolver",
        "evaluator",
        "pusher",
    ]
    assert {port: str(wire) for port, wire in graph["evaluator"].inputs.items()} == {
        "examples": "csv_example_gen.examples",
        "model": "trainer.model",
        "baseline_model": "latest_blessed_model_resolver.model",
    }
    assert {port: str(wire) for port, wire in graph["latest_blessed_model_resolver"].inputs.items()} == {
        "candidate": "trainer.model"
    }
    assert set(graph["pusher"].after) == {step.id for step in graph.steps} - {"pusher"}
    assert graph["transform"].settings["user_code"] == [str(module / "features.py")]
    beam = graph["csv_example_gen"].beam
    assert beam is not None
    assert (beam.runner, beam.args) == ("InMemoryRunner", ("--direct_num_workers=1",))


def test_what_is_not_followed_is_said_by_check(module: Path) -> None:
    result = check_pipeline(TAXI, overrides=taxi(module))

    assert result.errors == ()
    assert [warning.partition(" is not used")[0] for warning in result.warnings] == [
        "pipeline_root",
        "metadata_connection_config",
    ]


def test_arguments_that_are_missing_or_unknown_are_named(module: Path) -> None:
    with pytest.raises(ConfigError, match="missing a required argument: 'pipeline_root'. Give it with --set"):
        load(TAXI, ["parameters.pipeline_name=taxi"])
    with pytest.raises(ConfigError, match="my_pipeline has no such RuntimeParameter"):
        load(target("create"), ["parameters.dta=elsewhere"])
    with pytest.raises(ConfigError, match=r"tfx_pipelines_of_mine.py:\d+ in fails: KeyError: 'settings', when"):
        load(target("fails"))


def test_each_component_keeps_its_own_Beam_arguments(module: Path) -> None:
    graph = load(target("create")).graph

    beam = graph["statistics_gen"].beam
    assert beam is not None
    assert (beam.runner, beam.args) == ("FlinkRunner", ("--parallelism=2",))
    assert graph["csv_example_gen"].beam is None


def test_a_pipeline_that_does_not_set_enable_cache_runs_every_step_each_time(module: Path) -> None:
    definition = load(target("not_cached"))

    assert definition.graph.name == "tfx-7-wonders"
    assert {step.cache for step in definition.graph.steps} == {False}
    assert any(note.startswith("enable_cache is not set") for note in definition.notes)
    assert {step.cache for step in load(target("create")).graph.steps} == {True}


def test_an_Importer_is_a_step_whose_files_count(module: Path) -> None:
    graph = load(target("imported")).graph

    assert str(graph["example_validator"].inputs["schema"]) == "import_schema.result"
    plans = {plan.step: plan for plan in make_plan(graph, Store(module / "store"))}
    parts = plans["import_schema"].parts
    assert parts is not None
    assert [Path(file["path"]).name for file in parts["files"]["source_uri"]] == ["schema.pbtxt"]
    assert parts["settings"] == {"properties": {}, "custom_properties": {"by": "hand"}}


def test_a_RuntimeParameter_is_a_parameter_of_the_run_with_its_default(module: Path) -> None:
    (module / "others.py").write_text("def preprocessing_fn(inputs):\n    return inputs\n")

    assert load(target("with_parameter")).graph["transform"].settings["module_file"] == "features.py"
    changed = load(target("with_parameter"), ["parameters.module_file=others.py"])
    assert changed.graph["transform"].settings["module_file"] == "others.py"
    assert changed.parameters == {"module_file": "others.py"}
    assert changed.graph["transform"].settings["left_out"] == ["transformed_examples"]


def test_RuntimeParameters_inside_of_others_and_of_an_Importer_have_values_too(module: Path) -> None:
    graph = load(target("with_nested_parameters")).graph
    assert graph["import_schema"].settings["source_uri"] == "curated"
    assert json.loads(graph["trainer"].settings["train_args"]) == {"num_steps": 7}
    assert json.loads(graph["trainer"].settings["custom_config"]) == {"rate": 0.5, "why": "not"}

    given = ['parameters.train_args={"num_steps": 9}', "parameters.rate=2", "parameters.curated=data"]
    graph = load(target("with_nested_parameters"), given).graph

    assert graph["import_schema"].settings["source_uri"] == "data"
    assert json.loads(graph["trainer"].settings["train_args"]) == {"num_steps": 9}
    assert json.loads(graph["trainer"].settings["custom_config"]) == {"rate": 2.0, "why": "not"}


def test_a_RuntimeParameter_without_a_value_or_of_another_type_is_named(module: Path) -> None:
    with pytest.raises(
        ConfigError, match="import_schema: is the RuntimeParameter 'curated', which has no default. Give"
    ):
        load(target("required"))
    with pytest.raises(
        ConfigError, match="custom_config: is the RuntimeParameter 'rate', which is float, and 'fast' is"
    ):
        load(target("with_nested_parameters"), ["parameters.rate=fast"])
    with pytest.raises(ConfigError, match="which is str, and 7 is none: --set parameters.curated="):
        load(target("with_nested_parameters"), ["parameters.curated=7"])


def test_a_model_that_goes_on_from_the_served_one_is_no_candidate_of_what_is_resolved(module: Path) -> None:
    graph = load(target("warm_start")).graph

    assert graph["latest"].inputs == {}
    assert str(graph["trainer"].inputs["base_model"]) == "latest.model"
    assert str(graph["evaluator"].inputs["baseline_model"]) == "latest.model"


def test_nodes_under_Cond_are_asked_about_with_every_Cond_around_them(module: Path) -> None:
    graph = load(target("conditional")).graph

    asked = {step.id: [str(wire) for condition in step.when for wire in condition.reads] for step in graph.steps}
    assert asked == {
        "import_model": [],
        "csv_example_gen": [],
        "statistics_gen": [],
        "schema_gen": ["statistics_gen.statistics"],
        "curated": ["statistics_gen.statistics"],
        "example_validator": ["statistics_gen.statistics"] * 2,
        "pusher": [],
    }
    assert graph["curated"].parents == ("statistics_gen",)
    # Its refusal ends the run, so what conditions decide about is done before, wherever it was listed.
    assert graph.steps[-1].id == "pusher"


def test_a_Resolver_of_latest_artifacts_is_a_step_for_each_that_looks_for_all(module: Path) -> None:
    graph = load(target("latest_artifacts")).graph

    examples = {"type": "Examples", "step": "csv_example_gen", "output": "examples"}
    schema = {"type": "Schema", "step": "schema_of_others"}
    assert graph["latest_examples"].settings == {"looks_for": [examples, schema]}
    assert graph["latest_schema"].settings == {"looks_for": [schema, examples]}
    assert graph["latest_schema"].component == "components.io.tfx_resolvers.Latest__Schema"
    assert str(graph["example_validator"].inputs["schema"]) == "latest_schema.result"


def test_a_module_file_counts_with_what_it_imports_from_beside_it(module: Path) -> None:
    def digests() -> dict[str, str]:
        return {name: found.digest for name, found in code_closure([str(module / "features.py")]).modules.items()}

    before = digests()
    (module / "scaling_beside.py").write_text("FACTOR = 3  # more\n")

    assert set(before) == {"features.py", "scaling_beside"}
    assert digests()["features.py"] == before["features.py"]
    assert digests()["scaling_beside"] != before["scaling_beside"]


def test_a_component_of_TFX_s_counts_by_the_versions_of_its_libraries() -> None:
    closure = code_closure(["tfx.components.transform.component.Transform"])

    assert closure.modules == {}
    assert {"tfx", "tensorflow", "tensorflow-transform", "apache-beam"} <= set(closure.libraries)


def test_what_runs_TFX_s_components_and_its_libraries_count_for_a_component_of_the_user_s_too(module: Path) -> None:
    (module / "tfx_own_pusher.py").write_text(
        "from tfx import v1 as tfx\n\n\nclass OwnPusher(tfx.components.Pusher):\n    pass\n"
    )
    try:
        contract = read_contract(resolve("tfx_own_pusher.OwnPusher"))
        closure = code_closure(["tfx_own_pusher.OwnPusher", *contract.run_by])
    finally:
        sys.modules.pop("tfx_own_pusher", None)

    assert {"tfx_own_pusher", "components.io.tfx_components", "components.release.tfx_pusher"} <= set(closure.modules)
    assert {"tfx", "tensorflow-transform", "tf-keras"} <= {name.replace("_", "-") for name in closure.libraries}


def test_a_module_file_that_is_not_there_is_found_before_anything_runs(module: Path) -> None:
    (module / "features.py").unlink()

    result = check_pipeline(target("with_parameter"))

    assert any("features.py: there is no such file" in error for error in result.errors)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("same_ids", r"ExampleGen: is 'example_gen' as a step, and so is example-gen|example-gen: is 'example_gen' as"),
        ("own_strategy", "latest: OwnStrategy asks ML Metadata, and here LatestArtifactStrategy .*Importer"),
        (
            "spans",
            "latest: SpanRangeStrategy gives the artifacts of several spans.*ExampleGen, with: {source.*window: 3",
        ),
        ("several", "latest: desired_num_of_artifacts is 2, and an input here is one artifact"),
        ("of_this_run", "latest: examples is a OutputChannel, an output of this very run"),
        ("joined", "StatisticsGen: input 'examples' is a UnionChannel, .*Connect it to one output"),
        ("on_nothing", r"SchemaGen: stands under a Cond whose predicate reads exec_property\('fine'\).*Compare"),
    ],
)
def test_what_cannot_be_followed_is_named_with_what_to_do_instead(module: Path, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(target(name))


def test_fast_has_ours_in_the_place_of_TFX_s_and_says_so_of_each_step(module: Path) -> None:
    definition = load(target("create"), ["tfx.fast=true"])

    assert [step.component for step in definition.graph.steps] == [
        "components.data.example_gen.ExampleGen",
        "components.data.statistics_gen.StatisticsGen",
    ]
    beam = definition.graph["statistics_gen"].beam
    assert beam is not None
    assert (beam.runner, beam.args) == ("FlinkRunner", ("--parallelism=2",))
    assert definition.fast == {
        "csv_example_gen": "ours for TFX's CsvExampleGen",
        "statistics_gen": "ours for TFX's StatisticsGen",
    }
    assert load(target("create"), ["tfx.fast=false"]).fast == {}
    plan = {step.step: step.as_json() for step in plan_pipeline(target("imported"), overrides=["tfx.fast=true"])}
    assert plan["csv_example_gen"]["fast"] == "ours for TFX's CsvExampleGen"
    assert plan["example_validator"]["fast"] == "TFX's own: --fast swaps nothing for ExampleValidator"
    assert "fast" not in plan["import_schema"]
    checked = check_pipeline(target("create"), overrides=["tfx.fast=true"])
    assert "statistics_gen: ours for TFX's StatisticsGen\n" in checked.as_text()
    assert checked.as_json()["fast"] == definition.fast


def test_fast_is_for_pipelines_of_TFX_s(module: Path) -> None:
    (module / "pipelines_of_ours.py").write_text(
        "from pipeline.definition import Pipeline\n\n\ndef create():\n    return Pipeline(name='ours')\n"
    )
    try:
        with pytest.raises(ConfigError, match="--fast: pipelines_of_ours:create is no pipeline of TFX's"):
            load("pipelines_of_ours:create", ["tfx.fast=true"])
    finally:
        sys.modules.pop("pipelines_of_ours", None)


def test_fast_in_a_definition_in_YAML_is_for_all_its_steps_of_TFX_s(module: Path) -> None:
    own = "  more_gen: {uses: tfx.v1.components.CsvExampleGen, with: {input_base: one}}\n"
    (module / "pipeline.yaml").write_text(DEFINITION.replace("steps:\n", f"  fast: true\nsteps:\n{own}"))

    definition = load("pipeline.yaml")

    kinds = {step.id: step.component.rpartition(".")[2] for step in definition.graph.steps}
    assert (kinds["csv_example_gen"], kinds["more_gen"]) == ("ExampleGen", "ExampleGen")
    assert str(definition.graph["example_validator"].inputs["statistics"]) == "statistics_gen.statistics"
    assert definition.fast["trainer"] == "TFX's own: --fast swaps nothing for Trainer"
    assert "example_validator" not in definition.fast


DEFINITION = """
name: taxi-of-ours
seed: 7
parameters: {rate: 0.25, data: data}
tfx:
  pipeline: tfx_pipelines_of_mine:with_nested_parameters
  arguments: {required: true, curated: "${parameters.data}", rate: "${parameters.rate}", train_args: {num_steps: 3}}
steps:
  example_validator: {uses: ExampleValidator, inputs: {schema: import_schema.result}}
"""


def test_a_definition_in_YAML_has_the_steps_of_a_TFX_pipeline_and_its_own(module: Path) -> None:
    (module / "pipeline.yaml").write_text(DEFINITION)

    definition = load("pipeline.yaml", ["parameters.rate=0.75"])

    assert [step.id for step in definition.graph.steps][-1] == "example_validator"
    assert (definition.graph.name, definition.graph.seed) == ("taxi-of-ours", 7)
    assert definition.graph["import_schema"].settings["source_uri"] == "data"
    assert json.loads(definition.graph["trainer"].settings["train_args"]) == {"num_steps": 3}
    assert json.loads(definition.graph["trainer"].settings["custom_config"])["rate"] == 0.75
    assert str(definition.graph["example_validator"].inputs["statistics"]) == "statistics_gen.statistics"
    assert definition.parameters == {"rate": 0.75, "data": "data"}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("steps:\n  example_validator", "steps:\n  trainer", r"pipeline.yaml:9: steps.trainer: tfx_pipelines_of_mine:"),
        (' rate: "', ' rte: "', r"pipeline.yaml:6: tfx.pipeline: rte: my_pipeline has no such RuntimeParameter"),
        (":with_nested", ":wth_nested", r"pipeline.yaml:6: tfx.pipeline: .*wth_nested_parameters"),
        (":with_nested", ".with_nested", r"pipeline.yaml:6: tfx.pipeline: .* expected module:object"),
        ("  pipeline: tfx_pipelines_of_mine:with_nested_parameters\n", "", r"pipeline.yaml.*steps.*import_schema"),
    ],
)
def test_what_is_wrong_with_a_TFX_pipeline_in_YAML_is_told_with_its_line(
    module: Path, old: str, new: str, said: str
) -> None:
    assert DEFINITION.count(old) == 1
    (module / "pipeline.yaml").write_text(DEFINITION.replace(old, new))

    with pytest.raises(ConfigError, match=said):
        load("pipeline.yaml")


def test_a_definition_without_any_steps_is_told_so(module: Path) -> None:
    (module / "pipeline.yaml").write_text("name: taxi\ntfx: {fast: true}\n")

    with pytest.raises(ConfigError, match="there are no steps: give some, or a TFX pipeline's as `tfx:"):
        load("pipeline.yaml")
