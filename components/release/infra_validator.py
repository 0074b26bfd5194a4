"""Model, Examples -> InfraBlessing: whether a model server serves the model, as it was trained and fast enough."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from components.io import saved_model
from components.release import docker_server, latency, model_server, own_answers, parity, warmup
from components.release.model_server import NotServed, ServerProcess
from components.release.questions import Question, Unaskable, first, predict_request, questions, split_of
from components.release.served_model import ServedModel, Unanswered, available
from schemas.artifacts import Examples, InfraBlessing, Model, TransformGraph
from schemas.component import Out, Progress, Scratch
from schemas.errors import ArtifactError, ConfigError, DataError, did_you_mean

_NAME = "model"  # to the server; nothing depends on it
_BOUNDS = {"latency": ("p50_ms", "p99_ms"), "parity": ("absolute", "relative")}


@dataclass(frozen=True, kw_only=True)
class InfraValidator:
    """Model, Examples -> InfraBlessing: whether a model server serves the model, as it was trained and fast enough.

    A server is started on the very files that Pusher pushes: a version directory of links to them, and the warm-up requests,
    made from the first raw examples, which a blessing hands on to Pusher. The server replays them when it loads the model. Then
    it is asked about raw examples, and its answers are compared with those of the Keras model that was trained, given what
    Transform's graph makes of the same examples; for a model without Format-Keras, or without a transform graph, with those of
    the SavedModel in this process. Last, one-row requests of the default signature are timed.

    The blessing is withheld, with figures, from a model that lacks one of the `signatures`, differs by more than `parity`, or
    misses a bound of `latency`. One that the server does not load, or dies of, or that has operations which TensorFlow does
    not, is refused whatever anybody says. Without examples the server only loads the model.
    """

    server: str | None = None  # an image such as tensorflow/serving:2.16.1, run by Docker; None: our own model server
    signatures: tuple[str, ...] = (saved_model.SERVING_DEFAULT,)  # that the model must have
    latency: dict[str, float] = field(default_factory=dict)  # at most, {"p50_ms": 5, "p99_ms": 20}
    parity: dict[str, float] = field(default_factory=dict)  # {"absolute": 1e-5, "relative": 1e-4} unless set
    rows: int = 100  # raw examples whose answers are compared; 0: none
    requests: int = 300  # one-row requests that are timed; 0: none
    warmup_requests: int = 10  # raw examples to make requests from; 0: none
    load_timeout_s: float = 300.0  # for the server to load the model, and for Docker to fetch the image
    request_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        problems = []
        if self.server is not None and (not self.server.strip() or self.server.startswith("-")):
            problems.append(f"server: {self.server!r} is no image. Name one, such as tensorflow/serving:2.16.1")
        problems += [
            f"signatures.{at}: is empty. Name a signature" for at, name in enumerate(self.signatures) if not name
        ]
        for setting, known in _BOUNDS.items():
            for name, limit in getattr(self, setting).items():
                if name not in known:
                    there = did_you_mean(name, known) or f" There are: {', '.join(known)}"
                    problems.append(f"{setting}.{name}: no such bound.{there}")
                elif not limit >= 0 or (setting == "latency" and limit == 0):
                    problems.append(f"{setting}.{name}: {limit:g} is not a positive number")
        for setting, most in (("rows", None), ("requests", None), ("warmup_requests", warmup.MOST // 2)):
            value = getattr(self, setting)
            # Each example is asked of two signatures at most.
            if value < 0 or (most is not None and value > most):
                problems.append(f"{setting}: {value} is not {'0 or more' if most is None else f'between 0 and {most}'}")
        for setting, needed in (("latency", "requests"), ("parity", "rows")):
            if getattr(self, setting) and getattr(self, needed) == 0:
                problems.append(f"{setting}: cannot be judged with {needed}: 0. Leave one of them out")
        for setting in ("load_timeout_s", "request_timeout_s"):
            if not getattr(self, setting) > 0:
                problems.append(f"{setting}: {getattr(self, setting):g} is not a positive number of seconds")
        if problems:
            raise ConfigError(*problems)

    def run(
        self,
        model: Model,
        examples: Examples | None = None,
        transform_graph: TransformGraph | None = None,
        *,
        scratch: Scratch,
        progress: Progress,
        infra_blessing: Out[InfraBlessing],
    ) -> None:
        """Serve `model`, ask it, and bless it or not: every model gets a verdict.

        Raises ConfigError when bounds are set and no examples are wired, and for a `server` that Docker does not run;
        DataError for examples without a record.
        """
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # the server needs its share of the memory
        records = self._records(examples)
        found = _Findings({"server": self.server or "pipeline serve"})
        servable = True
        try:
            self._judge(
                model, examples, transform_graph, records, scratch, progress, infra_blessing.requests_path, found
            )
        except (ArtifactError, NotServed) as error:
            found.against.append(f"it cannot be served: {error}")
            servable = False
        infra_blessing.write(tuple(found.against), servable=servable)
        infra_blessing.properties.update(found.properties)

    def _records(self, examples: Examples | None) -> list[bytes]:
        if examples is None:
            bounds = [name for name in _BOUNDS if getattr(self, name)]
            if bounds:
                raise ConfigError(
                    *(
                        f"{name}: cannot be judged without raw examples to ask about. Wire `examples` to what ExampleGen made, "
                        f"or leave {name} out"
                        for name in bounds
                    )
                )
            return []
        records = first(examples, max(self.rows, 1))
        if not records:
            raise DataError(
                f"{examples.path}: split '{split_of(examples)}' has no examples to ask about. Give it some, or leave `examples` "
                f"unwired to have the server only load the model"
            )
        return records

    def _judge(
        self,
        model: Model,
        examples: Examples | None,
        graph: TransformGraph | None,
        records: list[bytes],
        scratch: Scratch,
        progress: Progress,
        requests: Path,
        found: _Findings,
    ) -> None:
        """Look at the model, have it served, and ask it. The warm-up requests are written to `requests`.

        Raises ArtifactError or NotServed for a model that cannot be served.
        """
        there = saved_model.signatures(model.serving)
        found.against += missing_signatures(self.signatures, there)
        custom = saved_model.unregistered_ops(model.serving)
        if custom:
            raise NotServed(
                f"the graph has operations that TensorFlow does not: {', '.join(custom)}. A server has them only if it is built "
                f"with them; use TensorFlow's own"
            )
        loaded = saved_model.load(model.serving)
        self._warm_up(loaded, model, examples, requests, found)
        version = version_directory(scratch.path / "serving", model.serving, requests if requests.is_file() else None)
        log = scratch.path / "server.log"
        try:
            with self._started(version, log) as server:
                case = _Case(loaded, list(questions(loaded, records)), split_of(examples) if examples else "")
                # While the server starts. The SavedModel is asked only where that is all there is.
                compares = bool(self.rows and case.asked)
                own, whose = _own_answers(model, graph, records, case, there) if compares else ([], "")
                with available(server, _NAME, self.load_timeout_s, self.request_timeout_s) as served:
                    if not case.asked:
                        self._note_unasked(examples, found)
                        return
                    if compares:
                        self._compare(served, case, own, whose, progress, found)
                    if self.requests:
                        self._time(served, case, progress, found)
        except NotServed:
            if log.is_file():
                sys.stderr.write(log.read_text(encoding="utf-8", errors="replace"))
            raise

    def _warm_up(self, loaded: Any, model: Model, examples: Examples | None, requests: Path, found: _Findings) -> None:
        """Make the warm-up requests of a model that brings none. Raises NotServed for a model whose own cannot be read."""
        made = 0
        if (model.serving / warmup.FILE).is_file():
            try:
                made = warmup.count(model.serving / warmup.FILE)
            except DataError as error:
                raise NotServed(f"{error}. Export the model with whole requests, or without") from error
        elif examples is not None and self.warmup_requests:
            try:
                made = warmup.write(loaded, _NAME, examples, self.warmup_requests, requests)
            except ArtifactError as error:
                found.against.append(str(error))
        found.properties["warmup_requests"] = made

    def _started(self, version: Path, log: Path) -> AbstractContextManager[ServerProcess]:
        if self.server is None:
            return model_server.started(_NAME, version.parent, log)
        return docker_server.started(self.server, _NAME, version, log)

    def _note_unasked(self, examples: Examples | None, found: _Findings) -> None:
        why = (
            f"{saved_model.SERVING_DEFAULT} does not take serialized tf.Examples, and there are no serving_columns of one row"
            if examples is not None
            else "no examples are wired"
        )
        found.properties["asked"] = f"nothing: {why}"
        found.against += [
            f"{name} cannot be judged: {why}. Export such a signature, or leave {name} out"
            for name in _BOUNDS
            if getattr(self, name)
        ]

    def _compare(
        self,
        served: ServedModel,
        case: _Case,
        own: Sequence[own_answers.Answer],
        whose: str,
        progress: Progress,
        found: _Findings,
    ) -> None:
        tolerance = parity.Tolerance(**self.parity)
        pairs: dict[str, list[Any]] = {}
        for number, (question, expected) in enumerate(zip(case.asked, own, strict=True), 1):
            answer = _served_answer(served, case, question)
            pairs.setdefault(question.signature, []).append((question.row, answer, expected))
            progress(number, len(case.asked), "answers")
        compared = {signature: parity.compare(rows, tolerance) for signature, rows in pairs.items()}
        reasons = [one.against(signature, case.split, whose, tolerance) for signature, one in compared.items()]
        found.against += [reason for reason in reasons if reason is not None]
        found.properties["parity"] = {
            **asdict(tolerance),
            "compared_with": whose,
            "signatures": {
                signature: {"rows": one.rows, "differ": one.differ, "largest_difference": one.largest}
                for signature, one in compared.items()
            },
        }

    def _time(self, served: ServedModel, case: _Case, progress: Progress, found: _Findings) -> None:
        signature = case.asked[0].signature
        requests, failure = [], ""
        # Once each, as the first takes longer. What is not answered has been told of.
        for question in (question for question in case.asked if question.signature == signature):
            try:
                request = case.request(question)
                served.ask(request)
            except (Unaskable, Unanswered) as error:
                failure = str(error)
            else:
                requests.append(request)
        if not requests:
            found.against.append(
                f"latency cannot be measured: no one-row request of {signature} is answered ({failure})"
            )
            return

        def ask(number: int) -> None:
            served.ask(requests[number % len(requests)])
            progress(number + 1, self.requests, "requests")

        try:
            timed = latency.measure(ask, self.requests, self.latency)
        except Unanswered as error:
            found.against.append(
                f"latency cannot be measured: a request that was answered before is not any more ({error})"
            )
            return
        found.against += timed.against(signature, self.latency)
        bounds = {f"max_{name}": limit for name, limit in self.latency.items()}
        found.properties["latency"] = {**asdict(timed), "signature": signature, **bounds}


@dataclass
class _Findings:
    """What was found: figures, and what is against the model."""

    properties: dict[str, Any]
    against: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Case:
    """What is asked of a model: rows of a split. `loaded` knows the types that its signatures take."""

    loaded: Any
    asked: list[Question]
    split: str

    def request(self, question: Question) -> Any:
        """The PredictRequest. Raises Unaskable."""
        return predict_request(self.loaded, _NAME, question)


def missing_signatures(wanted: Sequence[str], there: Mapping[str, saved_model.Signature]) -> list[str]:
    """A sentence for each wanted signature that the model does not have, or that a server cannot be asked."""
    listed = ", ".join(there) or "none"
    found = [
        f"signature '{name}' is missing; the model has {listed}. Export it, or change signatures"
        for name in wanted
        if name not in there
    ]
    for name in wanted:
        kinds = [kind for kind in ("inputs", "outputs") if name in there and not getattr(there[name], kind)]
        if kinds:
            found.append(
                f"signature '{name}' has no {' and no '.join(kinds)}. Export it with both, or change signatures"
            )
    return found


def version_directory(serving: Path, model: Path, requests: Path | None) -> Path:
    """A version of `model` as Pusher will push it, in the new directory `serving`: links to its files, and the requests.

    What is left there of an earlier attempt is removed.
    """
    shutil.rmtree(serving, ignore_errors=True)
    version = serving / "1"
    version.mkdir(parents=True)
    extra = Path(warmup.FILE).parent.name
    for child in sorted(model.iterdir()):
        if child.name != extra or not requests:
            (version / child.name).symlink_to(child.absolute())
    if requests:
        (version / extra).mkdir()
        for child in sorted((model / extra).iterdir()) if (model / extra).is_dir() else ():
            (version / extra / child.name).symlink_to(child.absolute())
        shutil.copyfile(requests, version / warmup.FILE)
    return version


def _own_answers(
    model: Model,
    graph: TransformGraph | None,
    records: Sequence[bytes],
    case: _Case,
    there: Mapping[str, saved_model.Signature],
) -> tuple[list[own_answers.Answer], str]:
    """(the model's own answer to each question, whose they are)."""
    try:
        trained = own_answers.of_trained(model, graph, records)
        outputs = {tuple(sorted(answer)) for answer in trained if not isinstance(answer, str)}
        for signature in {question.signature for question in case.asked}:
            if outputs - {there[signature].outputs}:
                raise own_answers.NotTrained(f"its outputs are not those of {signature}")
    except own_answers.NotTrained as why:
        return own_answers.of_saved_model(case.loaded, case.asked), f"the SavedModel in process, since {why}"
    return [trained[question.row] for question in case.asked], "the trained Keras model's in process"


def _served_answer(served: ServedModel, case: _Case, question: Question) -> own_answers.Answer:
    try:
        return served.answer(case.request(question))
    except (Unaskable, Unanswered) as error:
        return str(error)
