"""A component of a user's that is a class with an executor. It goes on from where a run was killed."""

import time
from pathlib import Path

import tensorflow as tf
from my_arithmetic import one_more
from my_parts import Tally
from tfx import v1 as tfx
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.utils import path_utils


class Scale(tf.Module):
    def __init__(self, by):
        super().__init__()
        self.by = tf.Variable(float(by))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="number")])
    def serve(self, number):
        return {"scaled": number * self.by}


class FitExecutor(base_executor.BaseExecutor):
    def Do(self, input_dict, output_dict, exec_properties):
        total = int(Path(artifact_utils.get_single_uri(input_dict["tally"]), "total").read_text())
        position = Path(self._get_tmp_dir(), "round")
        position.parent.mkdir(parents=True, exist_ok=True)
        done = int(position.read_text()) if position.exists() else 0
        print(f"going on from round {done}", flush=True)
        for number in range(done, exec_properties["rounds"]):
            staged = position.with_suffix(".new")
            staged.write_text(str(number + 1))
            staged.rename(position)
            while number == 1 and Path(exec_properties["hold"]).exists():
                time.sleep(0.01)
        model = Scale(one_more(total))
        directory = path_utils.serving_model_dir(artifact_utils.get_single_uri(output_dict["model"]))
        tf.saved_model.save(model, directory, signatures=model.serve)


class FitSpec(component_spec.ComponentSpec):
    PARAMETERS = {  # noqa: RUF012 as TFX writes it
        "rounds": component_spec.ExecutionParameter(type=int),
        "hold": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {"tally": component_spec.ChannelParameter(type=Tally)}  # noqa: RUF012 as TFX writes it
    OUTPUTS = {"model": component_spec.ChannelParameter(type=standard_artifacts.Model)}  # noqa: RUF012 as TFX writes it


class Fit(base_component.BaseComponent):
    SPEC_CLASS = FitSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(FitExecutor)

    def __init__(self, tally, rounds, hold):
        model = tfx.dsl.Channel(type=standard_artifacts.Model)
        super().__init__(FitSpec(tally=tally, rounds=rounds, hold=hold, model=model))
