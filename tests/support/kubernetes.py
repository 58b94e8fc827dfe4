"""A Kubernetes API server and etcd of our own: admission, schemas, RBAC and Pod Security, and no node that runs pods.

Without controllers a Job never ends. `Finisher` stands in for the kubelet and the Job controller: it ends every Job
that appears, as it is told, and notes what was missing at that moment of what the Job's pod needs to start.
"""

import json
import secrets
import shutil
import ssl
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import yaml

from tests.support.chart import Object, needs
from tests.support.go_programs import etcd, kube_apiserver
from tests.support.processes import Server, free_ports
from tests.support.waiting import wait_until

READY_TIMEOUT_S = 120
REQUEST_TIMEOUT_S = 30
POLL_S = 0.1

GROUPS = {
    "v1": "/api/v1",
    "apps/v1": "/apis/apps/v1",
    "batch/v1": "/apis/batch/v1",
    "policy/v1": "/apis/policy/v1",
    "networking.k8s.io/v1": "/apis/networking.k8s.io/v1",
    "keda.sh/v1alpha1": "/apis/keda.sh/v1alpha1",
    "monitoring.coreos.com/v1": "/apis/monitoring.coreos.com/v1",
    "apiextensions.k8s.io/v1": "/apis/apiextensions.k8s.io/v1",
}
# Every kind that the chart makes, by its path.
KINDS = {
    "ConfigMap": ("v1", "configmaps"),
    "Secret": ("v1", "secrets"),
    "Service": ("v1", "services"),
    "ServiceAccount": ("v1", "serviceaccounts"),
    "Pod": ("v1", "pods"),
    "Deployment": ("apps/v1", "deployments"),
    "Job": ("batch/v1", "jobs"),
    "PodDisruptionBudget": ("policy/v1", "poddisruptionbudgets"),
    "NetworkPolicy": ("networking.k8s.io/v1", "networkpolicies"),
    "ScaledObject": ("keda.sh/v1alpha1", "scaledobjects"),
    "PodMonitor": ("monitoring.coreos.com/v1", "podmonitors"),
    "ServiceMonitor": ("monitoring.coreos.com/v1", "servicemonitors"),
    "PrometheusRule": ("monitoring.coreos.com/v1", "prometheusrules"),
}


class ApiError(Exception):
    """The server's answer to what it did not take."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


class Cluster:
    """etcd and the API server on loopback, with their data in a temporary folder."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ts-cluster-"))
        self.kubeconfig = self.folder / "kubeconfig"
        self._token = secrets.token_hex(16)
        self._etcd_port, self._peer_port, self._port = free_ports(3)
        self._servers: list[Server] = []
        self._tls: ssl.SSLContext | None = None

    def start(self) -> None:
        key = self.folder / "service-account.key"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        (self.folder / "tokens.csv").write_text(f"{self._token},admin,admin,system:masters\n")
        self._servers.append(Server([etcd(), *self._etcd_flags()], self.folder / "etcd.log"))
        api = Server([kube_apiserver(), *self._api_flags(key)], self.folder / "apiserver.log")
        self._servers.append(api)

        def answers() -> bool:
            assert api.running, f"kube-apiserver does not start; the end of its log:\n{api.last_lines()}"
            return self._is_ready()

        wait_until(answers, READY_TIMEOUT_S, "the API server is ready")
        self.kubeconfig.write_text(yaml.safe_dump(self._kubeconfig()))

    def close(self) -> None:
        for server in reversed(self._servers):
            server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def request(self, method: str, path: str, body: object = None, content_type: str = "application/json") -> Object:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": content_type}
        url = f"https://127.0.0.1:{self._port}{path}"
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_TIMEOUT_S, context=self._tls) as answer:  # noqa: S310
                text = answer.read().decode()
        except urllib.error.HTTPError as error:
            raise ApiError(error.code, error.read().decode()) from None
        return json.loads(text) if text.startswith("{") else {"text": text}

    def path(self, kind: str, namespace: str, name: str = "") -> str:
        group, plural = KINDS[kind]
        return f"{GROUPS[group]}/namespaces/{namespace}/{plural}{'/' if name else ''}{name}"

    def all(self, kind: str, namespace: str) -> list[Object]:
        items = self.request("GET", self.path(kind, namespace))["items"]
        return [{"kind": kind, **item} for item in items]

    def exists(self, kind: str, namespace: str, name: str) -> bool:
        return any(each["metadata"]["name"] == name for each in self.all(kind, namespace))

    def create_namespace(self, name: str) -> None:
        """One in which pods have to be restricted, and whoever makes what makes others is warned."""
        labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
        self.request("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})

    def install_definitions(self, files: Iterable[Path]) -> None:
        """Custom resources, as an ordinary POST, until the server serves them."""
        path = f"{GROUPS['apiextensions.k8s.io/v1']}/customresourcedefinitions"
        names = [
            self.request("POST", path, file.read_bytes(), "application/yaml")["metadata"]["name"] for file in files
        ]

        def established() -> bool:
            return all(
                any(c["type"] == "Established" and c["status"] == "True" for c in status.get("conditions") or [])
                for status in (self.request("GET", f"{path}/{name}").get("status", {}) for name in names)
            )

        wait_until(established, READY_TIMEOUT_S, "custom resources are served")

    def _etcd_flags(self) -> list[str]:
        client, peer = (f"http://127.0.0.1:{port}" for port in (self._etcd_port, self._peer_port))
        return [
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]

    def _api_flags(self, key: Path) -> list[str]:
        return [
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            f"--cert-dir={self.folder / 'certificates'}",
            f"--secure-port={self._port}",
            "--bind-address=127.0.0.1",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--authorization-mode=RBAC",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--service-cluster-ip-range=10.0.0.0/24",
            # Nothing here makes the service accounts that it would ask for.
            "--disable-admission-plugins=ServiceAccount",
        ]

    @property
    def _certificate(self) -> Path:
        return self.folder / "certificates" / "apiserver.crt"

    def _is_ready(self) -> bool:
        if not self._certificate.exists():
            return False
        try:
            self._tls = ssl.create_default_context(cafile=str(self._certificate))
            return bool(self.request("GET", "/readyz")["text"] == "ok")
        except (ApiError, OSError, ssl.SSLError):
            return False

    def _kubeconfig(self) -> Object:
        server = {"server": f"https://127.0.0.1:{self._port}", "certificate-authority": str(self._certificate)}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": server}],
            "users": [{"name": "admin", "user": {"token": self._token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        }


@dataclass
class Finisher:
    """Ends Jobs of a namespace in the order in which they appear, from a thread, while the context lasts."""

    cluster: Cluster
    namespace: str
    succeeds: Callable[[str], bool] = lambda _: True
    ended: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _error: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join()
        if self._error:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._stop.wait(POLL_S):
                for job in self.cluster.all("Job", self.namespace):
                    if not job.get("status", {}).get("conditions") and "deletionTimestamp" not in job["metadata"]:
                        self._end(job)
        except BaseException as error:  # noqa: BLE001 - raised again in the test's own thread
            self._error = error

    def _end(self, job: Object) -> None:
        name = job["metadata"]["name"]
        for kind, needed in sorted(needs(job["spec"]["template"]["spec"])):
            if not self.cluster.exists(kind, self.namespace, needed):
                self.missing.append(f"{name} needs {kind} {needed}")
        path = f"{self.cluster.path('Job', self.namespace, name)}/status"
        for status in _ending(succeeded=self.succeeds(name)):
            self.cluster.request("PATCH", path, {"status": status}, "application/merge-patch+json")
        self.ended.append(name)


def _ending(*, succeeded: bool) -> list[dict[str, Any]]:
    """The states that the Job controller writes, one after the other: the API server wants them in this order."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def condition(kind: str) -> dict[str, str]:
        return {"type": kind, "status": "True", "lastProbeTime": now, "lastTransitionTime": now, "reason": "Test"}

    before, after = ("SuccessCriteriaMet", "Complete") if succeeded else ("FailureTarget", "Failed")
    first = {"startTime": now, "conditions": [condition(before)], "uncountedTerminatedPods": {}}
    counts: dict[str, Any] = {"succeeded": 1, "completionTime": now} if succeeded else {"failed": 1}
    return [first, {**counts, "conditions": [condition(before), condition(after)]}]
