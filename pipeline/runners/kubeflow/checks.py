"""What keeps a definition from running on Kubeflow, found without KFP and all at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from urllib.parse import parse_qs, urlsplit

from pipeline.contract import read_contract
from pipeline.definition import Definition
from pipeline.ledger.url import shown
from pipeline.lint import Finding, lint
from pipeline.runners.kubeflow.names import name_problems
from pipeline.runners.kubeflow.on_cluster import NO_LEDGER, kubeflow_of, local_and_on_cluster, parameter_problems
from pipeline.runners.kubeflow.resources import Resources, has_password, read_resources, resource_problems
from pipeline.runners.kubeflow.visible_paths import is_seen_here, path_problems
from schemas.config import KubeflowConfig
from schemas.dotted_path import resolve
from schemas.errors import ConfigError
from schemas.input_files import SCHEME


@dataclass(frozen=True)
class Checked:
    """A definition as it is on the cluster, what its pods get, and what is wrong with it."""

    definition: Definition
    resources: Resources
    errors: tuple[str, ...]
    warnings: tuple[str, ...]


def check_on_cluster(target: str, overrides: Iterable[str] = ()) -> Checked:
    """Find every mistake of a definition that matters on the cluster; what is wrong is in the answer.

    Raises ConfigError for a definition that cannot be read at all, or has no `kubeflow` section.
    """
    local, definition = local_and_on_cluster(target, overrides)
    kubeflow = kubeflow_of(local)
    errors = [*_target_problems(local), *parameter_problems(local, kubeflow)]
    resources = Resources(())
    try:
        resources = read_resources(definition, kubeflow)
    except ConfigError as error:
        errors += error.problems  # of the file; nothing can be said of what pods get before they are mended
    else:
        errors += resource_problems(definition, kubeflow, resources)
        errors += path_problems(definition, resources)
    errors += name_problems(definition, kubeflow)
    errors += _ledger_problems(definition, kubeflow)
    errors += _notification_problems(definition, kubeflow)
    findings = tuple(_findings(definition))
    errors += [str(finding) for finding in findings if finding.level == "error"]
    warnings = [*definition.notes, *(str(finding) for finding in findings if finding.level == "warning")]
    return Checked(definition, resources, tuple(dict.fromkeys(errors)), tuple(warnings))


def _target_problems(definition: Definition) -> Iterator[str]:
    if definition.target.startswith(("/", "..")):
        yield (
            f"{definition.target}: lies outside the working directory, below which the image has the same files. Run the command "
            f"where the definition's folder is, as `pipeline kubeflow compile configs/taxi/pipeline.yaml`"
        )


def _findings(definition: Definition) -> Iterator[Finding]:
    """What lint finds, but for files that only pods have; of those in packages, that nobody looked for them."""
    for finding in lint(definition.graph, definition.source):
        elsewhere = _paths_elsewhere(finding, definition)
        if not elsewhere:
            yield finding
        for path in elsewhere:
            if path.startswith(SCHEME):
                message = (
                    f"{path}: there is no such package here, so nobody looked for the file: see that the image has it"
                )
                yield replace(finding, level="warning", message=message)


def _paths_elsewhere(finding: Finding, definition: Definition) -> list[str]:
    """The input files that lint missed although they need not be on this machine."""
    step = definition.graph[finding.step]
    contract = read_contract(resolve(step.component))
    if finding.setting not in contract.input_files:
        return []
    return [path for path in contract.paths(step.settings, [finding.setting]) if not is_seen_here(path, definition)]


def _ledger_problems(definition: Definition, kubeflow: KubeflowConfig) -> Iterator[str]:
    ledger = definition.ledger or NO_LEDGER
    place = definition.place("kubeflow", "ledger") if kubeflow.ledger else definition.place("ledger")
    advice = "Give PostgreSQL's URL, or none: the store alone is enough, and a ledger can be rebuilt from it"
    try:
        url = urlsplit(ledger)
        password = url.password is not None or any("password" in name.lower() for name in parse_qs(url.query))
    except ValueError as error:
        yield f"{place}: not a URL: {error}. {advice}"
        return
    if password:  # which is not repeated here
        yield (
            f"{place}: has a password in it, which anybody could read in the package. Leave it out, and give the whole URL to the "
            f"pods from a secret, as kubeflow.defaults.secrets: [{{name: penstock-ledger, env: {{PENSTOCK_LEDGER: url}}}}]"
        )
    elif url.scheme.startswith("sqlite"):
        yield (
            f"{place}: {ledger} is a file, and pods on several hosts that write to one at once damage it. {advice}"
            + ("" if kubeflow.ledger else ", as kubeflow.ledger")
        )
    elif ledger != NO_LEDGER and "://" not in ledger:
        yield f"{place}: '{shown(ledger)}' is no URL. {advice}"


def _notification_problems(definition: Definition, kubeflow: KubeflowConfig) -> Iterator[str]:
    if kubeflow.notify is None:
        return
    place = definition.place("kubeflow", "notify")
    if kubeflow.notify.webhook is None and kubeflow.notify.secret is None:
        yield f"{place}: says neither of webhook and secret. Give the address itself, or the secret and key that hold it"
    if kubeflow.notify.webhook is not None and has_password(kubeflow.notify.webhook):  # which is not repeated here
        yield (
            f"{definition.place('kubeflow', 'notify', 'webhook')}: has a password in it, which anybody could read in the package. Leave the address out, and name the "
            f"secret and key that hold it"
        )
    if not kubeflow.exit_handler:
        yield f"{place}: it is the last task that notifies, and exit_handler: false leaves it out. Remove one of the two"
