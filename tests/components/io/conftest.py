"""A user's module with TFX components of every kind, and module files of a user's of TFX."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.artifact import Artifact


@pytest.fixture
def run(tmp_path: Path, run_in: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """(dotted path, settings, inputs) -> the outputs by name, each time under a directory of their own."""

    def run_(dotted: str, settings: dict[str, Any] | None = None, **given: Artifact | Any) -> dict[str, Any]:
        place = tmp_path / f"{dotted.rpartition('.')[2]}-{len(list(tmp_path.iterdir()))}"
        return run_in(place, dotted, settings, **given)

    return run_


PARTS = """
import json
import os
from typing import TypedDict

import apache_beam as beam
from tfx import v1 as tfx
from tfx.dsl.component.experimental.annotations import BeamComponentParameter
from tfx.dsl.components.base import base_component, base_driver, base_executor, executor_spec
from tfx.proto import example_gen_pb2
from tfx.types import artifact, component_spec, standard_artifacts

InputArtifact, OutputArtifact = tfx.dsl.components.InputArtifact, tfx.dsl.components.OutputArtifact


class Tally(artifact.Artifact):
    TYPE_NAME = "PartsTally"
    PROPERTIES = {"files": artifact.Property(type=artifact.PropertyType.INT)}


class Noted(artifact.Artifact):
    TYPE_NAME = "PartsNoted"
    PROPERTIES = {
        "source": artifact.Property(type=artifact.PropertyType.PROTO),
        "table": artifact.Property(type=artifact.PropertyType.JSON_VALUE),
    }


class MoreExamples(standard_artifacts.Examples):
    TYPE_NAME = "PartsExamples"


class AnotherTally(artifact.Artifact):
    TYPE_NAME = "PartsTally"


class OwnModel(artifact.Artifact):
    TYPE_NAME = "Model"


class Share(TypedDict):
    share: float


@tfx.dsl.components.component
def CountFiles(
    examples: InputArtifact[standard_artifacts.Examples],
    tally: OutputArtifact[Tally],
    factor: tfx.dsl.components.Parameter[int] = 1,
) -> Share:
    files = sum(len(os.listdir(examples.path(split=split))) for split in examples.splits)
    tally.files = files * factor
    tally.set_string_custom_property("made_by", "CountFiles")
    with open(os.path.join(tally.uri, "tally.json"), "w") as out:
        json.dump(examples.splits, out)
    return {"share": files / 4}


@tfx.dsl.components.component
def TakeShare(share: float, doubled: OutputArtifact[standard_artifacts.Float]):
    doubled.value = share * 2


@tfx.dsl.components.component(use_beam=True)
def CountRows(
    examples: InputArtifact[standard_artifacts.Examples],
    tally: OutputArtifact[Tally],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
):
    with beam_pipeline as rows:
        (
            rows
            | beam.io.ReadFromTFRecord(examples.path(split="train") + "/*.gz")
            | beam.combiners.Count.Globally()
            | beam.Map(str)
            | beam.io.WriteToText(os.path.join(tally.uri, "rows"), shard_name_template="")
        )


class SayExecutor(base_executor.BaseExecutor):
    def Do(self, input_dict, output_dict, exec_properties):
        (tally,) = input_dict["tally"]
        said = [exec_properties["greeting"], tally.files, tally.type_name, tally.get_string_custom_property("made_by")]
        with open(os.path.join(output_dict["said"][0].uri, "said.json"), "w") as out:
            json.dump([*said, os.path.basename(os.path.normpath(self._get_tmp_dir()))], out)


class AstrayExecutor(base_executor.BaseExecutor):
    def Do(self, input_dict, output_dict, exec_properties):
        output_dict["said"][0].uri = "/somewhere/else"


class WanderExecutor(base_executor.BaseExecutor):
    def Do(self, input_dict, output_dict, exec_properties):
        (tally,), (said,) = input_dict["tally"], output_dict["said"]
        where = exec_properties["greeting"]
        if where == "input":
            with open(os.path.join(tally.uri, "mine.json"), "w") as out:
                out.write("{}")
        elif where == "over the input":
            with open(os.path.join(tally.uri, "tally.json"), "w") as out:
                out.write("[]")
        elif where == "beside":
            with open(os.path.join(os.path.dirname(said.uri), "said.json"), "w") as out:
                out.write("{}")
        elif where == "here":
            with open("said.json", "w") as out:
                out.write("{}")
            return
        elif where == "a property":
            said.files = 0
            return
        elif where == "an empty split":
            os.mkdir(os.path.join(said.uri, "Split-eval"))
            return
        elif where == "fails":
            with open(os.path.join(tally.uri, "mine.json"), "w") as out:
                out.write("{}")
            raise ValueError("no more")
        with open(os.path.join(said.uri, "said.json"), "w") as out:
            out.write("{}")


class SaySpec(component_spec.ComponentSpec):
    PARAMETERS = {"greeting": component_spec.ExecutionParameter(type=str)}
    INPUTS = {"tally": component_spec.ChannelParameter(type=Tally)}
    OUTPUTS = {"said": component_spec.ChannelParameter(type=Tally)}


class Say(base_component.BaseComponent):
    SPEC_CLASS = SaySpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(SayExecutor)

    def __init__(self, tally, greeting="hello"):
        super().__init__(SaySpec(tally=tally, greeting=greeting, said=tfx.dsl.Channel(type=Tally)))


class Astray(Say):
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(AstrayExecutor)


class Wander(Say):
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(WanderExecutor)


class InContainer(Say):
    EXECUTOR_SPEC = executor_spec.ExecutorContainerSpec(image="registry/say:1", command=["say"])


class OwnDriver(base_driver.BaseDriver):
    pass


class Driven(Say):
    DRIVER_CLASS = OwnDriver


class Anything(component_spec.ComponentSpec):
    PARAMETERS = {"how": component_spec.ExecutionParameter(type=object)}
    INPUTS = {}
    OUTPUTS = {"said": component_spec.ChannelParameter(type=Tally)}


class Unstorable(base_component.BaseComponent):
    SPEC_CLASS = Anything
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(SayExecutor)

    def __init__(self):
        super().__init__(Anything(how=print, said=tfx.dsl.Channel(type=Tally)))


class NotedSpec(component_spec.ComponentSpec):
    PARAMETERS = {
        "lookup_file": component_spec.ExecutionParameter(type=str),
        "log_file": component_spec.ExecutionParameter(type=str, optional=True),
        "script": component_spec.ExecutionParameter(type=str, optional=True),
        "loss_fn": component_spec.ExecutionParameter(type=str, optional=True),
        "parameters": component_spec.ExecutionParameter(type=str, optional=True),
        "execute": component_spec.ExecutionParameter(type=str, optional=True),
    }
    INPUTS = {}
    OUTPUTS = {"noted": component_spec.ChannelParameter(type=Noted)}


class NoteExecutor(base_executor.BaseExecutor):
    def Do(self, input_dict, output_dict, exec_properties):
        (noted,) = output_dict["noted"]
        noted.source = example_gen_pb2.Input(splits=[example_gen_pb2.Input.Split(name=exec_properties["parameters"])])
        noted.table = {"rows": [1, 2]}
        if exec_properties["execute"] == "twice":
            output_dict["noted"].append(Noted())
        if exec_properties["execute"] == "not":
            output_dict["noted"].clear()


class Note(base_component.BaseComponent):
    SPEC_CLASS = NotedSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(NoteExecutor)

    def __init__(self, lookup_file, log_file=None, script=None, loss_fn=None, parameters="all", execute="once"):
        super().__init__(
            NotedSpec(
                lookup_file=lookup_file, log_file=log_file, script=script, loss_fn=loss_fn, parameters=parameters,
                execute=execute, noted=tfx.dsl.Channel(type=Noted),
            )
        )


class ReservedSpec(component_spec.ComponentSpec):
    PARAMETERS = {"run": component_spec.ExecutionParameter(type=str)}
    INPUTS = {}
    OUTPUTS = {"noted": component_spec.ChannelParameter(type=Noted)}


class Reserved(base_component.BaseComponent):
    SPEC_CLASS = ReservedSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(NoteExecutor)


class TwoOfAName(base_component.BaseComponent):
    SPEC_CLASS = type(
        "TwoOfANameSpec",
        (component_spec.ComponentSpec,),
        {
            "PARAMETERS": {},
            "INPUTS": {"tally": component_spec.ChannelParameter(type=Tally)},
            "OUTPUTS": {"other": component_spec.ChannelParameter(type=AnotherTally)},
        },
    )
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(SayExecutor)
"""


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The dotted path of a user's module with components of every kind."""
    directory = tmp_path_factory.mktemp("parts")
    (directory / "tfx_parts.py").write_text(PARTS)
    sys.path.append(str(directory))
    yield "tfx_parts"
    sys.path.remove(str(directory))
    sys.modules.pop("tfx_parts", None)


@pytest.fixture(scope="module")
def module_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """(source by module name) -> the path of the first, beside the others. What loads them is undone after a file of tests."""
    before, loaded = list(sys.path), set(sys.modules)
    written: set[str] = set()

    def write(**sources: str) -> str:
        directory = tmp_path_factory.mktemp(next(iter(sources)))
        for name, source in sources.items():
            (directory / f"{name}.py").write_text(source)
        written.update(sources)
        return str(directory / f"{next(iter(sources))}.py")

    yield write
    sys.path[:] = before
    for name in set(sys.modules) - loaded:
        if name in written:
            del sys.modules[name]
