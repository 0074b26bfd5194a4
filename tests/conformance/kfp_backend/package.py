"""A compiled package as the API server reads it, and what it and the compiler to Argo refuse.

Paths in docstrings are those of kubeflow/pipelines, below backend/src/.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec.pipeline_spec_pb2 import (
    ComponentSpec,
    DagSpec,
    ParameterType,
    PipelineDeploymentConfig,
    PipelineSpec,
    PipelineTaskSpec,
    PlatformSpec,
)

from kfp_backend.conditions import condition_holds
from kfp_backend.rules import Problem, Rejected, reject

OLDEST = (2, 5)
NEWEST = (2, 17)
ROOT = "root"
EXIT = PipelineTaskSpec.TriggerPolicy.TriggerStrategy.ALL_UPSTREAM_TASKS_COMPLETED
LAUNCHERS_DIRECTORIES = ("/kfp-launcher", "/gcs", "/s3", "/minio", "/.local", "/.cache", "/.config")


@dataclass(frozen=True)
class Package:
    """The documents of a package, parsed."""

    spec: PipelineSpec
    deployment: PipelineDeploymentConfig
    kubernetes: Mapping[str, KubernetesExecutorConfig]
    text: str = ""

    def component(self, task: PipelineTaskSpec) -> ComponentSpec:
        """What the task runs."""
        return self.spec.components[task.component_ref.name]

    def dags(self) -> Iterator[tuple[str, DagSpec]]:
        """The root and every nested group, by the component's name."""
        yield ROOT, self.spec.root.dag
        for name, component in sorted(self.spec.components.items()):
            if component.WhichOneof("implementation") == "dag":
                yield name, component.dag

    def tasks(self) -> Iterator[tuple[str, PipelineTaskSpec]]:
        """Every task of every group, by its key."""
        for _, dag in self.dags():
            yield from sorted(dag.tasks.items())

    def cached_tasks(self) -> list[str]:
        """Container tasks for which KFP's own cache is on, which knows nothing of data."""
        return [
            name
            for name, task in self.tasks()
            if self.component(task).executor_label and task.caching_options.enable_cache
        ]


def read_package(text: str, backend: tuple[int, int] = NEWEST) -> Package:
    """The package, when the API server takes it and the compiler to Argo can make a workflow of it. Raises Rejected."""
    package = parse_package(text)
    if problems := problems_of(package, backend):
        raise Rejected(*problems)
    return package


def problems_of(package: Package, backend: tuple[int, int] = NEWEST) -> list[Problem]:
    """Every rule that the package breaks; the backend itself stops at the first."""
    rules = RULES if backend >= (2, 14) else (*RULES, final_status_needs_a_newer_backend)
    return [Problem(rule.__name__, message) for rule in rules for message in rule(package)]


def parse_package(text: str) -> Package:
    """The pipeline spec and the platform spec, by their protos and strictly. Raises Rejected.

    apiserver/template/template.go, isPipelineSpec: one YAML document must be a bare PipelineSpec (not a PipelineJob), with every
    field known, a name and a root; apiserver/template/v2_template.go, NewV2SpecTemplate: there is one of those, and at most one
    platform spec. A document that is neither is dropped in silence there, and refused here.
    """
    specs: list[PipelineSpec] = []
    platforms: list[PlatformSpec] = []
    for document in yaml.safe_load_all(text):
        if document is None:
            continue
        if isinstance(document, dict) and "platforms" in document:
            platforms.append(_parsed(document, PlatformSpec(), "is_a_platform_spec"))
            continue
        specs.append(_parsed(document, PipelineSpec(), "is_a_bare_pipeline_spec"))
        if not specs[-1].pipeline_info.name or not specs[-1].HasField("root"):
            raise reject("is_a_bare_pipeline_spec", "no pipeline spec is provided: it lacks a name or a root")
    if len(specs) != 1 or len(platforms) > 1:
        message = f"{len(specs)} pipeline specs and {len(platforms)} platform specs are provided"
        raise reject("is_a_bare_pipeline_spec", message)
    # compiler/visitor.go, GetDeploymentConfig: what is not known in there is discarded.
    deployment = json_format.ParseDict(
        json_format.MessageToDict(specs[0].deployment_spec), PipelineDeploymentConfig(), ignore_unknown_fields=True
    )
    kubernetes: dict[str, KubernetesExecutorConfig] = {}
    for platform in platforms:
        if set(platform.platforms) != {"kubernetes"}:
            raise reject("is_a_platform_spec", f"{sorted(platform.platforms)} are not 'kubernetes' alone")
        for label, found in platform.platforms["kubernetes"].deployment_spec.executors.items():
            config = json_format.MessageToDict(found)
            kubernetes[label] = _parsed(config, KubernetesExecutorConfig(), "kubernetes_config_is_understood")
    return Package(specs[0], deployment, kubernetes, text)


def _parsed(document: Any, message: Any, rule: str) -> Any:
    try:
        return json_format.ParseDict(document, message)
    except (json_format.ParseError, AttributeError, TypeError) as error:
        raise reject(rule, str(error)) from None


def schema_version_is_2_1_0(package: Package) -> Iterator[str]:
    """apiserver/template/v2_template.go, NewV2SpecTemplate."""
    if package.spec.schema_version != "2.1.0":
        yield f"KFP only supports schema version 2.1.0, but the pipeline spec has version {package.spec.schema_version}"


def pipeline_name_is_legal(package: Package) -> Iterator[str]:
    """apiserver/common/utils.go, ValidatePipelineName."""
    name = package.spec.pipeline_info.name
    if not re.fullmatch("[a-z0-9][a-z0-9-]{0,127}", name):
        yield f"{name!r}: only lowercase letters, digits and '-', at most 128"


def task_names_are_workflow_names(package: Package) -> Iterator[str]:
    """v2/compiler/argocompiler/dag.go, task: a task's key is the name of an Argo DAG task, with -driver behind it for another."""
    for name, _ in package.tasks():
        if not re.fullmatch("[a-zA-Z0-9][-a-zA-Z0-9]{0,120}", name):
            yield f"{name!r}: only letters, digits and '-', at most 121"


def the_workflow_fits_etcd(package: Package) -> Iterator[str]:
    """apiserver/model/pipeline_version.go: Argo takes no more than 700 kB; components, tasks and executors all stand in it."""
    size = len(json_format.MessageToJson(package.spec, indent=None).encode())
    if size > 700_000:
        yield f"{size} bytes"


def components_are_there(package: Package) -> Iterator[str]:
    """v2/compiler/visitor.go, dfs: every task refers to a component, every component is a DAG or has an executor."""
    for name, task in package.tasks():
        if task.component_ref.name not in package.spec.components:
            yield f"{name}: cannot find component ref name={task.component_ref.name!r}"
    for name, component in sorted(package.spec.components.items()):
        if component.WhichOneof("implementation") is None:
            yield f"{name}: unknown component implementation"
        if component.executor_label and component.executor_label not in package.deployment.executors:
            yield f"{name}: executor(label={component.executor_label!r}) not found in deployment config"


def only_containers_run(package: Package) -> Iterator[str]:
    """v2/compiler/visitor.go, dfs, and v2/compiler/argocompiler/dag.go, task: resolvers and custom jobs are not implemented."""
    for label, executor in sorted(package.deployment.executors.items()):
        kind = executor.WhichOneof("spec")
        if kind != "container":
            yield f"{label}: {kind} executors are not implemented"


def containers_have_an_image_and_a_command(package: Package) -> Iterator[str]:
    """v2/component/launcher_v2.go, NewLauncherV2: command and arguments are empty; without a command, the image's is not used."""
    for label, executor in sorted(package.deployment.executors.items()):
        if executor.WhichOneof("spec") == "container" and not (executor.container.image and executor.container.command):
            yield f"{label}: image {executor.container.image!r}, command {list(executor.container.command)}"


def no_placeholder_is_a_struct(package: Package) -> Iterator[str]:
    """v2/component/launcher_v2.go, compileCmdAndArgs: a {"Concat": ...} or {"IfPresent": ...} is passed on as it is written."""
    for label, executor in sorted(package.deployment.executors.items()):
        for word in (*executor.container.command, *executor.container.args):
            if re.match(r'\s*\{\s*"(Concat|IfPresent)"', word):
                yield f"{label}: {word}"


def argo_leaves_words_alone(package: Package) -> Iterator[str]:
    """v2/compiler/argocompiler/container.go: words stand in the workflow's own templates, where Argo replaces {{...}} but {{$."""
    for label, executor in sorted(package.deployment.executors.items()):
        words = (*executor.container.command, *executor.container.args)
        words += tuple(variable.value for variable in executor.container.env)
        for word in words:
            if re.search(r"\{\{(?!\$)", word):
                yield f"{label}: {word}"


def no_lifecycle_hook_is_expected(package: Package) -> Iterator[str]:
    """v2/driver/container.go: nothing reads lifecycle.preCacheCheck, so what it was to resolve (a span) stays unresolved."""
    for label, executor in sorted(package.deployment.executors.items()):
        if executor.container.HasField("lifecycle"):
            yield f"{label}: lifecycle.preCacheCheck is ignored"


def parameters_have_types(package: Package) -> Iterator[str]:
    """v2/driver/resolve.go, resolveInputs: a value fits no parameter whose parameterType is missing (`type` is of schema 2.0.0)."""
    components = {ROOT: package.spec.root, **package.spec.components}
    for name, component in sorted(components.items()):
        for definitions in (component.input_definitions, component.output_definitions):
            for parameter, definition in sorted(definitions.parameters.items()):
                if definition.parameter_type == ParameterType.PARAMETER_TYPE_ENUM_UNSPECIFIED:
                    yield f"{name}.{parameter}: unspecified type"


def artifact_types_have_titles(package: Package) -> Iterator[str]:
    """v2/component/launcher_v2.go, getArtifactSchema, and v2/metadata/client.go, SchemaToArtifactType."""
    for name, component in sorted(package.spec.components.items()):
        for artifact, definition in sorted(component.output_definitions.artifacts.items()):
            kind = definition.artifact_type.WhichOneof("kind")
            if kind not in ("schema_title", "instance_schema"):
                yield f"{name}.{artifact}: {kind} is unsupported"


def task_inputs_can_be_resolved(package: Package) -> Iterator[str]:
    """v2/driver/resolve.go, resolveInputParameter: of runtime values, constants alone are implemented."""
    for name, task in package.tasks():
        for parameter, given in sorted(task.inputs.parameters.items()):
            kind = given.WhichOneof("kind")
            if kind == "runtime_value":
                value = given.runtime_value.WhichOneof("value")
                if value != "constant":
                    yield f"{name}.{parameter}: param runtime value spec of type {value} not implemented"
            elif kind is None:
                yield f"{name}.{parameter}: parameter spec of type None not implemented yet"
            if given.parameter_expression_selector:
                yield f"{name}.{parameter}: this harness has no {given.parameter_expression_selector!r}"


def producers_stand_in_the_same_dag(package: Package) -> Iterator[str]:
    """v2/compiler/argocompiler/dag.go, addImplicitDependencies."""
    for dag_name, dag in package.dags():
        for name, task in sorted(dag.tasks.items()):
            for producer in sorted({*dependencies(task)} - set(dag.tasks)):
                yield f"{name} in {dag_name}: unknown producer task {producer!r} in DAG"


def dependencies(task: PipelineTaskSpec) -> list[str]:
    """The tasks that must have succeeded before: those named, and the producers of inputs.

    v2/compiler/argocompiler/dag.go, addImplicitDependencies.
    """
    found = {*task.dependent_tasks}
    found |= {
        given.task_output_parameter.producer_task
        for given in task.inputs.parameters.values()
        if given.WhichOneof("kind") == "task_output_parameter"
    }
    found |= {
        given.task_output_artifact.producer_task
        for given in task.inputs.artifacts.values()
        if given.WhichOneof("kind") == "task_output_artifact"
    }
    return sorted(found)


def dags_hold_more_than_exit_tasks(package: Package) -> Iterator[str]:
    """v2/compiler/argocompiler/dag.go, DAG; iterators are a matter of the backend's that no package of ours has."""
    for name, dag in package.dags():
        if not any(task.trigger_policy.strategy != EXIT for task in dag.tasks.values()):
            yield f"{name} must contain one or more non-exit tasks"
        for task_name, task in sorted(dag.tasks.items()):
            if task.WhichOneof("iterator"):
                yield f"{task_name}: this harness runs no loops"


def dags_have_no_cycle(package: Package) -> Iterator[str]:
    """Argo refuses a workflow whose tasks wait for each other."""
    for dag_name, dag in package.dags():
        done: set[str] = set()
        waiting = {name: set(dependencies(task)) & set(dag.tasks) for name, task in dag.tasks.items()}
        while ready := {name for name, needed in waiting.items() if needed <= done}:
            done |= ready
            waiting = {name: needed for name, needed in waiting.items() if name not in ready}
        if waiting:
            yield f"{dag_name}: {sorted(waiting)}"


def conditions_can_be_read(package: Package) -> Iterator[str]:
    """v2/expression/expression.go, Condition: compiled when the driver runs, so a wrong one fails the run, not the upload."""
    for name, task in package.tasks():
        if condition := task.trigger_policy.condition:
            definitions = package.component(task).input_definitions.parameters
            examples = {parameter: _EXAMPLES.get(kind.parameter_type, "") for parameter, kind in definitions.items()}
            try:
                condition_holds(condition, examples)
            except Rejected as error:
                yield f"{name}: {error.problems[0].message}"


_EXAMPLES: Mapping[int, Any] = {
    ParameterType.BOOLEAN: True,
    ParameterType.NUMBER_INTEGER: 1.0,
    ParameterType.NUMBER_DOUBLE: 1.0,
}


def kubernetes_config_belongs_to_executors(package: Package) -> Iterator[str]:
    """v2/compiler/visitor.go, dfs: what is said of an executor that is not there is dropped in silence."""
    for label in sorted(set(package.kubernetes) - set(package.deployment.executors)):
        yield f"{label}: no such executor"


def mounts_can_be_made(package: Package) -> Iterator[str]:
    """v2/driver/k8s.go, makeVolumeMountPatch; Kubernetes takes each mount path once, and the launcher has some already."""
    for label, config in sorted(package.kubernetes.items()):
        paths = [mount.mount_path for mount in config.pvc_mount]
        paths += [mount.mount_path for mount in (*config.secret_as_volume, *config.config_map_as_volume)]
        paths += [mount.mount_path for mount in config.empty_dir_mounts]
        for path in paths:
            if not path.startswith("/"):
                yield f"{label}: mount path {path!r} is not absolute"
        for path in sorted({path for path in paths if paths.count(path) > 1 or path in LAUNCHERS_DIRECTORIES}):
            yield f"{label}: mount path {path} is taken"
        for mount in config.pvc_mount:
            name = mount.pvc_name_parameter.runtime_value.constant.string_value or mount.constant
            if not re.fullmatch("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name):
                yield f"{label}: {name!r} cannot be the name of a volume"


def secrets_are_read_as_environment(package: Package) -> Iterator[str]:
    """v2/driver/k8s.go, extendPodSpecPatch: a secret needs a name; a variable's name is one that Kubernetes takes."""
    for label, config in sorted(package.kubernetes.items()):
        for secret in config.secret_as_env:
            if not (secret.secret_name or secret.HasField("secret_name_parameter")):
                yield f"{label}: missing either SecretName or SecretNameParameter"
            for pair in secret.key_to_env:
                if not re.fullmatch("[-._a-zA-Z][-._a-zA-Z0-9]*", pair.env_var):
                    yield f"{label}: {pair.env_var!r} is no name of a variable"


def resources_are_quantities(package: Package) -> Iterator[str]:
    """v2/driver/driver.go, initPodSpecPatch and getPodResource: resource.ParseQuantity, when the task starts."""
    quantity = re.compile(r"\d+(\.\d+)?([EPTGMk]i?|Ki|m|e\d+)?")
    for label, executor in sorted(package.deployment.executors.items()):
        resources = executor.container.resources
        for field in ("cpu_request", "cpu_limit", "memory_request", "memory_limit"):
            text = getattr(resources, f"resource_{field}", "")
            if text and not quantity.fullmatch(text):
                yield f"{label}: {field} {text!r}"
        if resources.HasField("accelerator"):
            count = resources.accelerator.resource_count or str(resources.accelerator.count)
            if not re.fullmatch(r"[1-9]\d*", count):
                yield f"{label}: accelerator count {count!r}"


def final_status_needs_a_newer_backend(package: Package) -> Iterator[str]:
    """v2/compiler/argocompiler/dag.go at 2.5.0, addImplicitDependencies: task final status not supported yet."""
    for name, task in package.tasks():
        for parameter, given in sorted(task.inputs.parameters.items()):
            if given.WhichOneof("kind") == "task_final_status":
                yield f"{name}.{parameter}: task final status not supported yet"


RULES: tuple[Callable[[Package], Iterator[str]], ...] = (
    schema_version_is_2_1_0,
    pipeline_name_is_legal,
    task_names_are_workflow_names,
    the_workflow_fits_etcd,
    components_are_there,
    only_containers_run,
    containers_have_an_image_and_a_command,
    no_placeholder_is_a_struct,
    argo_leaves_words_alone,
    no_lifecycle_hook_is_expected,
    parameters_have_types,
    artifact_types_have_titles,
    task_inputs_can_be_resolved,
    producers_stand_in_the_same_dag,
    dags_hold_more_than_exit_tasks,
    dags_have_no_cycle,
    conditions_can_be_read,
    kubernetes_config_belongs_to_executors,
    mounts_can_be_made,
    secrets_are_read_as_environment,
    resources_are_quantities,
)


def run_parameters(package: Package, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a run: those given, checked, and the defaults. Raises Rejected.

    apiserver/template/v2_template.go, validatePipelineJobInputs: required ones are there, each of its type, and no others;
    v2/compiler/argocompiler/argo.go, Compile: defaults are filled in, an optional one without a default is null.
    """
    definitions = package.spec.root.input_definitions.parameters
    problems = [
        f"{name} is not optional, yet has neither default value nor user provided value"
        for name, definition in sorted(definitions.items())
        if name not in given and not definition.is_optional and not definition.HasField("default_value")
    ]
    problems += [f"{name} is not required by the pipeline" for name in sorted(set(given) - set(definitions))]
    problems += [
        f"{name} requires type {ParameterType.ParameterTypeEnum.Name(definitions[name].parameter_type)}, got {value!r}"
        for name, value in sorted(given.items())
        if name in definitions and not fits(value, definitions[name].parameter_type)
    ]
    if problems:
        raise Rejected(*(Problem("run_parameters", problem) for problem in problems))
    defaults = {
        name: plain(definition.default_value) if definition.HasField("default_value") else None
        for name, definition in definitions.items()
    }
    return defaults | {name: as_backend_has_it(value) for name, value in given.items()}


def fits(value: Any, kind: int) -> bool:
    """Whether a value is of a parameter's type; every number is a double there, so 1.5 fits an integer."""
    if isinstance(value, bool):
        return kind == ParameterType.BOOLEAN
    if isinstance(value, int | float):
        return kind in (ParameterType.NUMBER_INTEGER, ParameterType.NUMBER_DOUBLE)
    kinds = {
        str: (ParameterType.STRING,),
        list: (ParameterType.LIST,),
        dict: (ParameterType.STRUCT, ParameterType.TASK_FINAL_STATUS),
    }
    return kind in kinds.get(type(value), ())


def plain(value: Any) -> Any:
    """A protobuf Value as Python data, every number a float."""
    return as_backend_has_it(json_format.MessageToDict(value))


def as_backend_has_it(value: Any) -> Any:
    """JSON data as it is after it went through protobuf's Struct: every number is a double."""
    return json.loads(json.dumps(value), parse_int=float)
