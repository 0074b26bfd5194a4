"""Asks a running model server about three trips over gRPC, with grpcio and protobuf and without TensorFlow.

Only the fields that are needed of TensorFlow Serving's messages are described here, under their numbers in predict.proto and
tensor.proto; what travels is the same.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from configs.taxi.ask import TRIPS

FLOATS = ("trip_miles", "fare", "pickup_latitude", "pickup_longitude", "dropoff_latitude", "dropoff_longitude")
INTEGERS = (
    "trip_seconds",
    "trip_start_month",
    "trip_start_day",
    "trip_start_hour",
    "pickup_community_area",
    "dropoff_community_area",
)
TEXTS = ("payment_type", "company")

DT_FLOAT, DT_STRING, DT_INT64 = 1, 7, 9
_MESSAGES: Mapping[str, Mapping[str, tuple[int, str]]] = {  # field: (number, type); a * for a repeated one
    "Dimension": {"size": (1, "int64")},
    "Shape": {"dim": (2, "Dimension*")},
    "Tensor": {
        "dtype": (1, "int32"),
        "tensor_shape": (2, "Shape"),
        "float_val": (5, "float*"),
        "string_val": (8, "bytes*"),
        "int64_val": (10, "int64*"),
    },
    "Named": {"key": (1, "string"), "value": (2, "Tensor")},
    "ModelSpec": {"name": (1, "string"), "signature_name": (3, "string")},
    "PredictRequest": {"model_spec": (1, "ModelSpec"), "inputs": (2, "Named*")},
    "PredictResponse": {"outputs": (1, "Named*")},
}


def ask(address: str, model: str, trips: Sequence[Mapping[str, Any]]) -> list[float]:
    """The probability of a big tip for each trip. What a trip does not say is sent as missing."""
    made = _messages()
    request = made["PredictRequest"]()
    request.model_spec.name = model
    request.model_spec.signature_name = "serving_columns"
    for names, field, dtype, missing in (
        (FLOATS, "float_val", DT_FLOAT, math.nan),
        (INTEGERS, "int64_val", DT_INT64, -(2**63)),
        (TEXTS, "string_val", DT_STRING, ""),
    ):
        for name in names:
            tensor = request.inputs.add(key=name).value
            tensor.dtype = dtype
            tensor.tensor_shape.dim.add(size=len(trips))
            values = [trip.get(name, missing) for trip in trips]
            getattr(tensor, field).extend([v.encode() if isinstance(v, str) else v for v in values])
    with grpc.insecure_channel(address) as channel:
        predict = channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            request_serializer=made["PredictRequest"].SerializeToString,
            response_deserializer=made["PredictResponse"].FromString,
        )
        (output,) = predict(request, timeout=10).outputs
    return list(output.value.float_val)


def _messages() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="ask_server.proto", package="ask_server", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            described = message.field.add(name=field, number=number, label=kinds.LABEL_OPTIONAL)
            if kind.endswith("*"):
                described.label = kinds.LABEL_REPEATED
            kind = kind.rstrip("*")
            if kind in _MESSAGES:
                described.type, described.type_name = kinds.TYPE_MESSAGE, f".ask_server.{kind}"
            else:
                described.type = kinds.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"ask_server.{name}")) for name in _MESSAGES
    }


def main() -> None:
    """`python -m configs.taxi.ask_server localhost:8500`, beside `pipeline serve serving/taxi`."""
    address = sys.argv[1] if len(sys.argv) > 1 else "localhost:8500"
    for trip, probability in zip(TRIPS, ask(address, "taxi", TRIPS), strict=True):
        print(f"{probability:.3f}  {trip['payment_type']}, {trip['trip_miles']} miles")


if __name__ == "__main__":
    main()
