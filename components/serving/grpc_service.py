"""TensorFlow Serving's gRPC interface: PredictionService, ModelService, and gRPC's own health service."""

from __future__ import annotations

import asyncio
from typing import Any

from components.serving import calls, protos
from components.serving.servable import Arrays
from components.serving.service import LARGE, Service, Target, signature_def_map
from components.serving.status import Code, Unanswered, invalid

HEALTH_NAMES = ("", "ModelService", "PredictionService")
_SIGNATURE_DEF = "signature_def"


async def add_services(server: Any, service: Service) -> None:
    """Register everything at a grpc.aio server."""
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc
    from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_Prediction(service), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_Models(service), server)
    states = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(states, server)
    for name in HEALTH_NAMES:
        await states.set(name, health_pb2.HealthCheckResponse.SERVING)


class _Prediction:
    """PredictionService, by the names that the generated code looks for."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._answered(self._predict, request, context, "Predict")

    async def Classify(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._answered(self._classify, request, context, "Classify")

    async def Regress(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._answered(self._regress, request, context, "Regress")

    async def MultiInference(self, request: Any, context: Any) -> Any:  # noqa: N802
        await _abort(context, Unanswered(Code.UNIMPLEMENTED, "MultiInference is not answered by this server"))

    async def GetModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        try:
            return self._metadata(request)
        except Unanswered as error:
            await _abort(context, error)

    async def _answered(self, answer: Any, request: Any, context: Any, api: str) -> Any:
        try:
            target = _target(request)
            with self._service.counted(target, api, "GRPC"), self._service.using(target) as servable:
                return await answer(request, servable)
        except Unanswered as error:
            await _abort(context, error)

    async def _predict(self, request: Any, servable: Any) -> Any:
        from tensorflow_serving.apis import predict_pb2

        signature = calls.predict_signature(servable, request.model_spec.signature_name)
        large = request.ByteSize() > LARGE
        inputs = await asyncio.to_thread(self._inputs, request) if large else self._inputs(request)
        calls.check_inputs(signature, inputs)
        wanted = list(request.output_filter)
        calls.check_output_filter(signature, wanted)
        outputs = await self._service.runner.run(servable, signature, inputs)
        response = predict_pb2.PredictResponse()
        _fill_spec(response.model_spec, servable, signature.name)
        large = sum(value.nbytes for value in outputs.values()) > LARGE
        given = {name: outputs[name] for name in wanted or outputs}
        if large:
            await asyncio.to_thread(_fill_outputs, response, given)
        else:
            _fill_outputs(response, given)
        return response

    def _inputs(self, request: Any) -> dict[str, Any]:
        most = self._service.max_request_bytes
        return {name: protos.to_array(tensor, name, most) for name, tensor in request.inputs.items()}

    async def _classify(self, request: Any, servable: Any) -> Any:
        from tensorflow_serving.apis import classification_pb2

        signature = calls.classify_signature(servable, request.model_spec.signature_name)
        examples = protos.examples(request.input)
        outputs = await self._service.runner.run(servable, signature, calls.examples_input(examples))
        response = classification_pb2.ClassificationResponse()
        _fill_spec(response.model_spec, servable, signature.name)
        for one in calls.classifications(outputs, len(examples)):
            classes = response.result.classifications.add().classes
            for label, score in one:
                classes.add(label=label.decode(errors="replace"), score=score)
        return response

    async def _regress(self, request: Any, servable: Any) -> Any:
        from tensorflow_serving.apis import regression_pb2

        signature = calls.regress_signature(servable, request.model_spec.signature_name)
        examples = protos.examples(request.input)
        outputs = await self._service.runner.run(servable, signature, calls.examples_input(examples))
        response = regression_pb2.RegressionResponse()
        _fill_spec(response.model_spec, servable, signature.name)
        for value in calls.regressions(outputs, len(examples)).tolist():
            response.result.regressions.add(value=value)
        return response

    def _metadata(self, request: Any) -> Any:
        from tensorflow_serving.apis import get_model_metadata_pb2

        target = _target(request)
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != _SIGNATURE_DEF:
                raise invalid(f"Metadata field {field} is not supported")
        with self._service.using(target) as servable:
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            _fill_spec(response.model_spec, servable)
            response.metadata[_SIGNATURE_DEF].Pack(signature_def_map(servable))
            return response


class _Models:
    """ModelService, by the names that the generated code looks for."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def GetModelStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        from tensorflow_serving.apis import get_model_status_pb2

        try:
            target = _target(request)
            found = self._service.registry.status(target.model, target.version, target.label)
        except Unanswered as error:
            await _abort(context, error)
            return None
        response = get_model_status_pb2.GetModelStatusResponse()
        states = get_model_status_pb2.ModelVersionStatus.State
        for one in found:
            status = response.model_version_status.add(version=one.version, state=states.Value(one.state))
            status.status.error_code = Code[one.code] if one.error else 0
            status.status.error_message = one.error
        return response

    async def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:  # noqa: N802
        message = "HandleReloadConfigRequest is not answered by this server; it reads its models.config again when that changes"
        await _abort(context, Unanswered(Code.UNIMPLEMENTED, message))


def _target(request: Any) -> Target:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    spec = request.model_spec
    choice = spec.WhichOneof("version_choice")
    return Target(
        spec.name,
        spec.version.value if choice == "version" else None,
        spec.version_label if choice == "version_label" else None,
    )


def _fill_spec(spec: Any, servable: Any, signature: str = "") -> None:
    spec.name = servable.name
    spec.version.value = servable.version
    spec.signature_name = signature


def _fill_outputs(response: Any, outputs: Arrays) -> None:
    for name, value in outputs.items():
        response.outputs[name].CopyFrom(protos.from_array(value))


async def _abort(context: Any, error: Unanswered) -> None:
    """End the call; this raises what grpc.aio catches."""
    await context.abort(_grpc_codes()[error.code], error.message)


def _grpc_codes() -> dict[int, Any]:
    import grpc

    return {code.value[0]: code for code in grpc.StatusCode}
