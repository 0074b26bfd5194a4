"""Pods as the restricted Pod Security Standard wants them, with which a namespace may be labelled."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip
SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range",
}  # fmt: skip
SELINUX = {"container_t", "container_init_t", "container_kvm_t", "container_engine_t"}


def violations(pod: Mapping[str, Any]) -> list[str]:
    """What the restricted standard refuses in a pod's specification, a sentence for each; it holds the baseline's rules, too.

    https://kubernetes.io/docs/concepts/security/pod-security-standards/ has them.
    """
    return [*_of_pod(pod), *(problem for container in _containers(pod) for problem in _of_container(container, pod))]


def _of_pod(pod: Mapping[str, Any]) -> Iterator[str]:
    security = pod.get("securityContext", {})
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(name):
            yield f"{name} is the host's"
    for volume in pod.get("volumes", ()):
        kinds = set(volume) - {"name"}
        if not kinds <= VOLUMES:
            yield f"volume {volume['name']} is of a kind that is not allowed: {', '.join(sorted(kinds - VOLUMES))}"
    for sysctl in security.get("sysctls", ()):
        if sysctl["name"] not in SYSCTLS:
            yield f"sysctl {sysctl['name']} is not a safe one"
    yield from _of_both(security, "pod")


def _of_container(container: Mapping[str, Any], pod: Mapping[str, Any]) -> Iterator[str]:
    name, own, above = container["name"], container.get("securityContext", {}), pod.get("securityContext", {})
    if own.get("privileged"):
        yield f"{name} is privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"{name} may gain privileges"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", ()):
        yield f"{name} keeps capabilities"
    if set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
        yield f"{name} adds capabilities"
    if own.get("runAsNonRoot", above.get("runAsNonRoot")) is not True:
        yield f"{name} may run as root"
    if own.get("runAsUser", above.get("runAsUser")) == 0:
        yield f"{name} runs as root"
    if own.get("seccompProfile", above.get("seccompProfile", {})).get("type") not in ("RuntimeDefault", "Localhost"):
        yield f"{name} has no seccomp profile"
    if own.get("procMount", "Default") != "Default":
        yield f"{name} has an unmasked /proc"
    if any(port.get("hostPort") for port in container.get("ports", ())):
        yield f"{name} takes a port of the host"
    probes = [container.get(probe, {}) for probe in ("livenessProbe", "readinessProbe", "startupProbe")]
    probes += [container.get("lifecycle", {}).get(hook, {}) for hook in ("postStart", "preStop")]
    if any(probe.get(how, {}).get("host") for probe in probes for how in ("httpGet", "tcpSocket")):
        yield f"{name} probes another host"
    yield from _of_both(own, name)


def _of_both(security: Mapping[str, Any], of: str) -> Iterator[str]:
    """What may be said of a pod and of each of its containers."""
    options = security.get("seLinuxOptions", {})
    if options.get("user") or options.get("role") or options.get("type", "container_t") not in SELINUX:
        yield f"{of} has SELinux options of its own"
    if security.get("appArmorProfile", {}).get("type", "RuntimeDefault") not in ("RuntimeDefault", "Localhost"):
        yield f"{of} is unconfined by AppArmor"
    if security.get("windowsOptions", {}).get("hostProcess"):
        yield f"{of} is a process of the host"


def _containers(pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [
        each for kind in ("initContainers", "containers", "ephemeralContainers") for each in pod.get(kind, ())
    ]  # fmt: skip


def test_every_pod_is_restricted(pods: dict[str, Any]) -> None:
    assert {name: violations(pod) for name, pod in pods.items()} == {
        "CronJob/penstock-trigger": [],
        "Deployment/tf-serving": [],
        "InferenceService/taxi": [],
        "Pod/penstock-shell": [],
    }


def test_every_container_of_ours_has_a_read_only_root_and_bounds(pods: dict[str, Any]) -> None:
    """Beyond the standard. KServe's server writes where KServe wants it to."""
    for name, pod in pods.items():
        for container in _containers(pod):
            writable = not container["securityContext"].get("readOnlyRootFilesystem")
            assert writable == (name == "InferenceService/taxi")
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            assert "memory" in container["resources"]["limits"]
        assert pod["automountServiceAccountToken"] is False


SOUND = {
    "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {"name": "c", "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}
    ],
    "volumes": [{"name": "v", "emptyDir": {}}],
}

Breach = Callable[[dict[str, Any], dict[str, Any]], Any]

BREACHES: dict[str, Breach] = {
    "hostNetwork is the host's": lambda pod, container: pod.update(hostNetwork=True),
    "hostPID is the host's": lambda pod, container: pod.update(hostPID=True),
    "hostIPC is the host's": lambda pod, container: pod.update(hostIPC=True),
    "volume v is of a kind that is not allowed: hostPath": lambda pod, container: pod.update(
        volumes=[{"name": "v", "hostPath": {"path": "/"}}]
    ),
    "sysctl kernel.msgmax is not a safe one": lambda pod, container: pod["securityContext"].update(
        sysctls=[{"name": "kernel.msgmax", "value": "1"}]
    ),
    "pod has SELinux options of its own": lambda pod, container: pod["securityContext"].update(
        seLinuxOptions={"type": "spc_t"}
    ),
    "pod is unconfined by AppArmor": lambda pod, container: pod["securityContext"].update(
        appArmorProfile={"type": "Unconfined"}
    ),
    "pod is a process of the host": lambda pod, container: pod["securityContext"].update(
        windowsOptions={"hostProcess": True}
    ),
    "c is privileged": lambda pod, container: container["securityContext"].update(privileged=True),
    "c may gain privileges": lambda pod, container: container["securityContext"].pop("allowPrivilegeEscalation"),
    "c keeps capabilities": lambda pod, container: container["securityContext"].update(
        capabilities={"drop": ["CHOWN"]}
    ),
    "c adds capabilities": lambda pod, container: container["securityContext"]["capabilities"].update(
        add=["SYS_ADMIN"]
    ),
    "c may run as root": lambda pod, container: pod["securityContext"].pop("runAsNonRoot"),
    "c runs as root": lambda pod, container: container["securityContext"].update(runAsUser=0),
    "c has no seccomp profile": lambda pod, container: pod["securityContext"].pop("seccompProfile"),
    "c has an unmasked /proc": lambda pod, container: container["securityContext"].update(procMount="Unmasked"),
    "c takes a port of the host": lambda pod, container: container.update(ports=[{"containerPort": 1, "hostPort": 1}]),
    "c probes another host": lambda pod, container: container.update(
        livenessProbe={"tcpSocket": {"host": "h", "port": 1}}
    ),
    "c has SELinux options of its own": lambda pod, container: container["securityContext"].update(
        seLinuxOptions={"role": "r"}
    ),
    "c is unconfined by AppArmor": lambda pod, container: container["securityContext"].update(
        appArmorProfile={"type": "Unconfined"}
    ),
    "c is a process of the host": lambda pod, container: container["securityContext"].update(
        windowsOptions={"hostProcess": True}
    ),
}


@pytest.mark.parametrize("problem", BREACHES)
def test_each_rule_finds_what_breaks_it_and_nothing_else(problem: str) -> None:
    pod: dict[str, Any] = copy.deepcopy(SOUND)
    assert violations(pod) == []

    BREACHES[problem](pod, pod["containers"][0])

    assert violations(pod) == [problem]


@pytest.mark.parametrize("kind", ["initContainers", "ephemeralContainers"])
def test_the_rules_hold_for_every_kind_of_container(kind: str) -> None:
    assert violations({**SOUND, kind: [{"name": "other"}]}) == ["other may gain privileges", "other keeps capabilities"]
