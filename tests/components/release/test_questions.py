"""What a model is asked of raw examples, beside what TFX's InfraValidator asks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.io import saved_model, tfrecord
from components.io.tfx import tfx_examples
from components.release.questions import Unaskable, first, predict_request, questions
from schemas.artifacts import Examples, Model


def test_serving_default_is_asked_what_tfx_asks_it(asked: Model, raw: Examples) -> None:
    from tfx.components.infra_validator import request_builder
    from tfx.proto import infra_validator_pb2
    from tfx.types import standard_artifacts

    model = standard_artifacts.Model()
    model.uri = str(asked.path)
    spec = infra_validator_pb2.RequestSpec(split_name="eval", num_examples=3, tensorflow_serving={})
    theirs = request_builder.build_requests("model", model, tfx_examples(raw), spec)

    loaded = saved_model.load(asked.serving)
    ours = [predict_request(loaded, "model", question) for question in questions(loaded, first(raw, 3))]

    def in_order(requests: list[Any]) -> list[bytes]:  # TFX shuffles the rows
        return sorted(request.SerializeToString(deterministic=True) for request in requests)

    assert in_order(ours[:3]) == in_order(theirs)
    assert [request.model_spec.signature_name for request in ours[3:]] == ["serving_columns"] * 3


def test_values_of_another_kind_than_a_column_takes_cannot_be_asked(
    asked: Model, example: Callable[..., bytes]
) -> None:
    loaded = saved_model.load(asked.serving)
    (*_, columns) = questions(loaded, [example(fare=[b"2.50"])])

    with pytest.raises(Unaskable, match="TypeError"):
        predict_request(loaded, "model", columns)


@pytest.mark.parametrize(("splits", "asked_of"), [(("train", "eval"), b"eval"), (("later", "train"), b"train")])
def test_the_rows_are_those_of_eval_or_of_the_first_split(
    tmp_path: Path, splits: tuple[str, ...], asked_of: bytes
) -> None:
    for split in splits:
        (tmp_path / f"Split-{split}").mkdir()
        for shard in range(2):
            records = [f"{split} {shard} {row}".encode() for row in range(2)]
            tfrecord.write(tmp_path / f"Split-{split}" / f"data_tfrecord-{shard:05d}-of-00002.gz", records)

    assert first(Examples(tmp_path), 3) == [asked_of + end for end in (b" 0 0", b" 0 1", b" 1 0")]
