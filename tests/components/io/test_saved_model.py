"""SavedModels as a server looks at them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from components.io import saved_model
from components.io.saved_model import Signature
from schemas.errors import ArtifactError


@pytest.fixture(scope="module")
def doubling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel with one signature."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def double(x: Any) -> dict[str, Any]:
        return {"doubled": 2 * x, "same": x}

    module = tf.Module()
    module.double = double
    path = tmp_path_factory.mktemp("saved") / "model"
    saved_model.save(module, path, {"serving_default": double.get_concrete_function()})
    return path


def test_the_signatures_are_read_without_loading(doubling: Path) -> None:
    assert saved_model.signatures(doubling) == {"serving_default": Signature(("x",), ("doubled", "same"))}


def test_a_loaded_model_answers(doubling: Path) -> None:
    import tensorflow as tf

    answer = saved_model.load(doubling).signatures["serving_default"](x=tf.constant([21.0]))

    assert answer["doubled"].numpy().tolist() == [42.0]


def test_a_directory_without_a_model_is_named(tmp_path: Path) -> None:
    assert not saved_model.exists(tmp_path)
    with pytest.raises(ArtifactError, match=r"has no saved_model\.pb"):
        saved_model.signatures(tmp_path)


def test_a_file_that_was_cut_short_is_named(doubling: Path, tmp_path: Path) -> None:
    cut = shutil.copytree(doubling, tmp_path / "cut")
    (cut / "saved_model.pb").write_bytes((doubling / "saved_model.pb").read_bytes()[:-7])

    with pytest.raises(ArtifactError, match=r"saved_model\.pb: not a SavedModel, or cut short"):
        saved_model.load(cut)


def test_a_model_that_no_server_would_find_is_refused_with_the_tags_it_has(doubling: Path, tmp_path: Path) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    other = shutil.copytree(doubling, tmp_path / "other")
    model = saved_model_pb2.SavedModel.FromString((other / "saved_model.pb").read_bytes())
    model.meta_graphs[0].meta_info_def.tags[:] = ["eval"]
    (other / "saved_model.pb").write_bytes(model.SerializeToString())

    with pytest.raises(ArtifactError, match=r"the tag 'serve' \(found: eval\)"):
        saved_model.load(other)


def test_a_model_without_its_weights_cannot_be_loaded(doubling: Path, tmp_path: Path) -> None:
    bare = shutil.copytree(doubling, tmp_path / "bare")
    shutil.rmtree(bare / "variables")

    with pytest.raises(ArtifactError, match="TensorFlow cannot load this SavedModel"):
        saved_model.load(bare)
