"""Programs of Go that tests use: built once into `.cache`, from the Go module proxy, at pinned versions.

Where a program can be installed by its own name, it is; for the others a small module in `tests/support/go` says what
to build, and its go.sum holds the hashes. A first build takes minutes; `python -m tests.support.go_programs` does it
before the tests, and with the word `cluster` for the API server too.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.downloads import ROOT, cached
from tests.support.versions import COMPOSE, ETCD, HELM, KEDA, KUBECTL_VALIDATE, KUBERNETES, PROMETHEUS_OPERATOR

MODULES = ROOT / "tests" / "support" / "go"
BUILD_TIMEOUT_S = 3000

# Modules whose folder of custom resource definitions is wanted, and nothing else.
DEFINITIONS = {
    f"github.com/kedacore/keda/v2@{KEDA}": Path("config", "crd", "bases"),
    f"github.com/prometheus-operator/prometheus-operator@{PROMETHEUS_OPERATOR}": Path(
        "example", "prometheus-operator-crd"
    ),
}


NEEDS_GO = [
    pytest.mark.skipif(
        shutil.which("go") is None and not os.environ.get("CI"), reason="the Go toolchain is not installed"
    ),
    pytest.mark.timeout(BUILD_TIMEOUT_S),
]
"""For tests that use one of these, and may be the first to need it. Without Go they are skipped; under CI they fail."""


def helm() -> Path:
    return _installed("helm", "helm.sh/helm/v4/cmd/helm", HELM)


def kubectl_validate() -> Path:
    return _installed("kubectl-validate", "sigs.k8s.io/kubectl-validate", KUBECTL_VALIDATE)


def compose_config() -> Path:
    return _built("compose", COMPOSE)


def kube_apiserver() -> Path:
    """It is told which version it is: a chart may ask, and only a release's own build would know."""
    major, minor, _ = KUBERNETES.removeprefix("v").split(".")
    known = {"gitVersion": KUBERNETES, "gitMajor": major, "gitMinor": minor}
    flags = (f"-X k8s.io/component-base/version.{name}={value}" for name, value in known.items())
    return _built("apiserver", KUBERNETES, *flags)


def etcd() -> Path:
    return _built("etcd", ETCD)


def custom_resource_definitions() -> Path:
    """A folder with the definitions of KEDA and of the Prometheus operator."""
    return cached(f"crds-keda-{KEDA}-prometheus-operator-{PROMETHEUS_OPERATOR}", _copy_definitions)


def _installed(name: str, package: str, version: str) -> Path:
    def install(folder: Path) -> None:
        _go("install", f"{package}@{version}", environment={"GOBIN": str(folder)})

    return cached(f"{name}-{version}", install) / name


def _built(name: str, version: str, *flags: str) -> Path:
    def build(folder: Path) -> None:
        # `-s -w` leaves out what only a debugger reads: half of the size.
        ldflags = " ".join(["-ldflags=-s -w", *flags])
        _go("build", "-mod=readonly", ldflags, "-o", str(folder / name), ".", folder=MODULES / name)

    return cached(f"{name}-{version}", build) / name


def _copy_definitions(folder: Path) -> None:
    for module, path in DEFINITIONS.items():
        source = Path(json.loads(_go("mod", "download", "-json", module))["Dir"]) / path
        for file in sorted(source.glob("*.yaml")):
            if file.name != "kustomization.yaml":
                shutil.copyfile(file, folder / file.name)


def _go(*arguments: str, folder: Path = ROOT, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        ["go", *arguments],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT_S,
        cwd=folder,
        env={**os.environ, "GOFLAGS": "-buildvcs=false", **(environment or {})},
    )
    if done.returncode:
        message = f"go {' '.join(arguments)}: exit code {done.returncode}\n{done.stderr}"
        raise RuntimeError(message)
    return done.stdout


def main(*wanted: str) -> None:
    programs = [compose_config, custom_resource_definitions, helm, kubectl_validate]
    for program in [*programs, etcd, kube_apiserver] if "cluster" in wanted else programs:
        sys.stdout.write(f"{program()}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
