"""assets.extra/tf_serving_warmup_requests -> a version that has answered each of them once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.io import tfrecord
from components.serving import calls, protos
from components.serving.servable import Servable
from components.serving.status import Unanswered
from schemas.artifacts.infra_blessing import WARMUP_REQUESTS
from schemas.errors import ArtifactError, DataError

FILE = WARMUP_REQUESTS  # a TFRecord of tensorflow.serving.PredictionLog
MOST_RECORDS = 1000  # what TensorFlow Serving takes


def warm_up(servable: Servable, path: Path) -> int:
    """Replay the requests that came with the model at `path`; gives how many there were, 0 without the file.

    The model named in a request does not matter. Logs of other calls than Predict, Classify and Regress are passed over.
    Raises ArtifactError when the file cannot be read, has too many records, or a request is not answered.
    """
    file = path / FILE
    if not file.is_file():
        return 0
    import tensorflow as tf
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis import prediction_log_pb2

    count = 0
    try:
        for record in tfrecord.read(file):
            count += 1
            if count > MOST_RECORDS:
                raise ArtifactError(f"{file}: has more than {MOST_RECORDS} records, the most that a server replays")
            _replay(servable, prediction_log_pb2.PredictionLog.FromString(record))
    except DataError as error:
        raise ArtifactError(str(error)) from error  # which names the file and the record
    except (DecodeError, OSError, Unanswered, tf.errors.OpError) as error:
        reason = str(error).strip().splitlines()
        raise ArtifactError(
            f"{file}: warm-up request {count} is not answered ({reason[0] if reason else type(error).__name__}). "
            f"Push the model with requests that it answers"
        ) from error
    return count


def _replay(servable: Servable, log: Any) -> None:
    kind = log.WhichOneof("log_type")
    if kind == "predict_log":
        request = log.predict_log.request
        signature = calls.predict_signature(servable, request.model_spec.signature_name)
        inputs = {name: protos.to_array(tensor, name) for name, tensor in request.inputs.items()}
        calls.check_inputs(signature, inputs)
        servable.run(signature, inputs)
    elif kind in ("classify_log", "regress_log"):
        request = getattr(log, kind).request
        find = calls.classify_signature if kind == "classify_log" else calls.regress_signature
        signature = find(servable, request.model_spec.signature_name)
        servable.run(signature, calls.examples_input(protos.examples(request.input)))
