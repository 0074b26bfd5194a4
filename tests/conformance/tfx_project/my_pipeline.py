"""A pipeline of a user's, written for TFX: a component of each kind between TFX's CsvExampleGen and Pusher."""

import my_fitting
import my_parts
from tfx import v1 as tfx


def create_pipeline(data: str, serving: str, hold: str, factor: int = 1) -> tfx.dsl.Pipeline:
    """Numbers are added up, fitted in three rounds, judged and pushed."""
    example_gen = tfx.components.CsvExampleGen(input_base=data)
    add_up = my_parts.AddUp(examples=example_gen.outputs["examples"], factor=factor)
    fit = my_fitting.Fit(tally=add_up.outputs["tally"], rounds=3, hold=hold)
    judge = my_parts.Judge(model=fit.outputs["model"], least=1.0)
    pusher = tfx.components.Pusher(
        model=fit.outputs["model"],
        model_blessing=judge.outputs["blessing"],
        push_destination=tfx.proto.PushDestination(
            filesystem=tfx.proto.PushDestination.Filesystem(base_directory=serving)
        ),
    )
    return tfx.dsl.Pipeline(
        pipeline_name="numbers", components=[example_gen, add_up, fit, judge, pusher], enable_cache=True
    )
