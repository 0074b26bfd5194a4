"""The pipeline of pipeline.yaml written in Python; both give the same graph."""

from __future__ import annotations

from components.data.example_gen import ExampleGen
from components.data.example_validator import ExampleValidator
from components.data.schema_gen import ImportSchema
from components.data.statistics_gen import StatisticsGen
from components.features.transform import Transform
from components.model.evaluator import Evaluator
from components.model.trainer import Trainer
from components.model.tuner import Tuner
from components.release.infra_validator import InfraValidator
from components.release.pusher import Pusher
from pipeline.definition import Pipeline

MODEL = "configs.taxi.model.build_model"
KUBEFLOW = {
    "image": "registry.example.com/team/penstock:0.1.0",
    "root": "/mnt/penstock/.penstock",
    "resources": "kubeflow/resources.yaml",
    "parameters": {"destination": "/mnt/penstock/serving/taxi"},
}


def taxi(train_steps: int = 1000, max_trials: int = 3, destination: str = "serving/taxi") -> Pipeline:
    """`pipeline run configs.taxi.definition:taxi --set parameters.train_steps=20` runs it."""
    pipeline = Pipeline(name="chicago-taxi", seed=13, kubeflow=KUBEFLOW)
    example_gen = pipeline.step(
        "example_gen", ExampleGen(source="pkg://tfx/examples/chicago_taxi_pipeline/data/simple/*.csv")
    )
    statistics_gen = pipeline.step("statistics_gen", StatisticsGen())
    schema_gen = pipeline.step("schema_gen", ImportSchema(path="schemas/datasets/taxi.pbtxt"))
    pipeline.step(
        "example_validator",
        ExampleValidator(on_anomaly="fail"),
        statistics=statistics_gen.statistics,
        schema=schema_gen.schema,
    )
    transform = pipeline.step(
        "transform", Transform(preprocessing_fn="configs.taxi.features.preprocessing_fn"), examples=example_gen.examples
    )
    tuner = pipeline.step("tuner", Tuner(build_model=MODEL, algorithm="random", max_trials=max_trials, steps=200))
    trainer = pipeline.step(
        "trainer",
        Trainer(build_model=MODEL, steps=train_steps),
        examples=transform.transformed_examples,
        hyperparameters=tuner.hyperparameters,
    )
    evaluator = pipeline.step(
        "evaluator",
        Evaluator(
            label="big_tip",
            slices=((), ("trip_start_hour",)),
            thresholds={"auc": {"min": 0.7, "min_change": -0.01}},
        ),
        examples=example_gen.examples,
        model=trainer.model,
    )
    infra_validator = pipeline.step(
        "infra_validator",
        InfraValidator(latency={"p50_ms": 20.0, "p99_ms": 200.0}, parity={"absolute": 1e-5, "relative": 1e-4}),
        examples=example_gen.examples,
        model=trainer.model,
    )
    pipeline.step(
        "pusher",
        Pusher(destination=destination, max_size_mb=50.0),
        blessing=evaluator.blessing,
        infra_blessing=infra_validator.infra_blessing,
    )
    return pipeline
