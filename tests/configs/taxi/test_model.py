"""The taxi model takes the transformed features, asks for three hyperparameters, and learns."""

from __future__ import annotations

import pytest

from schemas.artifacts import Model
from schemas.component import Progress, Scratch, Seed


def test_its_inputs_are_every_transformed_feature_but_the_label(taxi_transformed):
    import keras_tuner

    from components.model.input_data import transformed_spec
    from configs.taxi.model import build_model

    values = keras_tuner.HyperParameters()
    model = build_model(values)

    assert {*model.input_names, "big_tip"} == set(transformed_spec(taxi_transformed[0]))
    assert values.values == {"layers": 2, "units": 32, "learning_rate": 0.001}


@pytest.mark.slow
def test_it_tells_big_tips_from_others(tmp_path, taxi_transformed):
    from components.model.trainer import Trainer

    model, scratch = Model(tmp_path / "model"), Scratch(tmp_path / "scratch")
    model.path.mkdir()
    scratch.path.mkdir()
    Trainer(build_model="configs.taxi.model.build_model", steps=300).run(
        taxi_transformed[1], taxi_transformed[0], seed=Seed(13), scratch=scratch, progress=Progress(), model=model
    )

    assert model.properties["metrics"]["val_auc"] > 0.7
