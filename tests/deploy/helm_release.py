"""The chart's life on a real API server: install, upgrade, rollback, a refused rollback, uninstall.

Run by `make test-helm`, which builds the server; it is not among the tests that `make test` collects. Pods are admitted
and never run, and Jobs end because the test says so (`tests.support.kubernetes`).
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ingest import __version__
from tests.support.chart import CHART, RELEASE, VALUES, Object, of_kind, pods, render
from tests.support.go_programs import NEEDS_GO, custom_resource_definitions, helm
from tests.support.kubernetes import KINDS, ApiError, Cluster, Finisher

pytestmark = NEEDS_GO

NAMESPACE = "shop"
OLD = "0.0.1"
TIMEOUT_S = 300
FULL, TRIAL = (CHART / "ci" / f"{name}-values.yaml" for name in ("full", "trial"))
MIGRATE, REGISTERS = f"{RELEASE}-tallystream-migrate", f"{RELEASE}-tallystream-migrate-registers"

# What a warning looks like, from Kubernetes or from Helm itself.
WARNING = re.compile(r"^(W\d{4}|warning|.*would violate PodSecurity|level=WARN)", re.IGNORECASE | re.MULTILINE)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """With the custom resources of KEDA and the Prometheus operator, and a namespace for restricted pods."""
    made = Cluster()
    try:
        made.start()
        made.install_definitions(sorted(custom_resource_definitions().glob("*.yaml")))
        made.create_namespace(NAMESPACE)
        for name in ("postgres", "kafka-credentials", "kafka-ca", "registry", "registry-credentials"):
            path = made.path("Secret", NAMESPACE)
            made.request("POST", path, {"metadata": {"name": name}, "stringData": {"key": "value"}})
        yield made
    finally:
        made.close()


@pytest.fixture
def old_chart(tmp_path: Path) -> Path:
    """This chart as an earlier version of itself: nothing has been released yet."""
    copy = tmp_path / "old" / "tallystream"
    shutil.copytree(CHART, copy)
    description = yaml.safe_load((copy / "Chart.yaml").read_text())
    (copy / "Chart.yaml").write_text(yaml.safe_dump({**description, "version": OLD, "appVersion": OLD}))
    return copy


def _helm(cluster: Cluster, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    flags = [f"--namespace={NAMESPACE}", f"--kubeconfig={cluster.kubeconfig}"]
    return subprocess.run([helm(), *arguments, *flags], check=False, capture_output=True, text=True, timeout=TIMEOUT_S)


def _done(done: subprocess.CompletedProcess[str]) -> str:
    """What Helm said, when it did what it was told and nobody warned of anything."""
    assert done.returncode == 0, done.stdout + done.stderr
    assert WARNING.search(done.stderr + done.stdout) is None, done.stderr + done.stdout
    return done.stdout


def _mine(cluster: Cluster) -> dict[tuple[str, str], Object]:
    """All there is of the release in the namespace."""
    return {
        (kind, each["metadata"]["name"]): each
        for kind in KINDS
        for each in cluster.all(kind, NAMESPACE)
        if each["metadata"].get("labels", {}).get("app.kubernetes.io/instance") == RELEASE
    }


def _expected(objects: list[Object]) -> set[tuple[str, str]]:
    return {
        (each["kind"], each["metadata"]["name"])
        for each in objects
        if "helm.sh/hook" not in each["metadata"].get("annotations", {})
    }


def _images(cluster: Cluster) -> dict[str, str]:
    return {
        each["metadata"]["name"].removeprefix(f"{RELEASE}-tallystream-"): each["spec"]["template"]["spec"][
            "containers"
        ][0]["image"]
        for each in cluster.all("Deployment", NAMESPACE)
    }


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.name.removesuffix("-values.yaml"))
def test_the_server_takes_every_object(cluster: Cluster, values: Path) -> None:
    """Every set of values, with the server's own validation, defaulting and admission."""
    _done(_helm(cluster, "install", RELEASE, CHART, f"--values={values}", "--dry-run=server"))


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.name.removesuffix("-values.yaml"))
def test_pods_are_admitted_where_only_restricted_ones_are(cluster: Cluster, values: Path) -> None:
    """Each pod that a Deployment or a Job would make; one that might be root is refused."""
    path = f"{cluster.path('Pod', NAMESPACE)}?dryRun=All"
    for maker, spec in pods(render(values)):
        # The class itself is the cluster's affair.
        pod = {"metadata": {"name": maker["metadata"]["name"]}, "spec": {**spec, "priorityClassName": ""}}
        cluster.request("POST", path, pod)
        rooted = {**pod, "spec": {**pod["spec"], "securityContext": {**spec["securityContext"], "runAsNonRoot": False}}}
        with pytest.raises(ApiError, match="violates PodSecurity"):
            cluster.request("POST", path, rooted)


def test_a_release_lives_and_leaves_nothing_behind(cluster: Cluster, old_chart: Path) -> None:
    """Old version to new and back: the jobs first, each with what it needs, then what the values say and no more."""
    with Finisher(cluster, NAMESPACE) as jobs:
        _done(_helm(cluster, "install", RELEASE, old_chart, f"--values={TRIAL}"))
        assert jobs.ended == [MIGRATE, REGISTERS]
        installed = _mine(cluster)
        assert installed.keys() == _expected(render(TRIAL, chart=old_chart))
        assert set(_images(cluster).items()) == {(name, f"tallystream:{OLD}") for name in ("shop", "compactor")}

        jobs.ended.clear()
        _done(_helm(cluster, "upgrade", RELEASE, CHART, f"--values={FULL}", '--set-json=image.digest=""'))
        assert jobs.ended == [MIGRATE, REGISTERS]
        assert _mine(cluster).keys() == _expected(render(FULL))
        image = f"registry.example.com/tallystream:{__version__}"
        assert _images(cluster) == dict.fromkeys(("shop", "tills", "backfill", "compactor"), image)

        jobs.ended.clear()
        _done(_helm(cluster, "rollback", RELEASE, "1"))
        assert jobs.ended == [MIGRATE], "declarations are never taken back"
        assert _mine(cluster).keys() == installed.keys()
        for key, before in installed.items():
            assert _content(_mine(cluster)[key]) == _content(before), key

        _done(_helm(cluster, "uninstall", RELEASE))
    assert jobs.missing == []
    assert _mine(cluster) == {}


def test_a_rollback_that_the_schema_forbids_changes_nothing(cluster: Cluster, old_chart: Path) -> None:
    """The old version's migration refuses a newer schema; then the new version goes on running as it was."""
    with Finisher(cluster, NAMESPACE) as jobs:
        _done(_helm(cluster, "install", RELEASE, old_chart, f"--values={TRIAL}"))
        _done(_helm(cluster, "upgrade", RELEASE, CHART, f"--values={TRIAL}"))
        before = _mine(cluster)
        jobs.succeeds = lambda name: name != MIGRATE
        refused = _helm(cluster, "rollback", RELEASE, "1")
        assert refused.returncode != 0
        after = _mine(cluster)
        assert {key: _content(after[key]) for key in before} == {key: _content(each) for key, each in before.items()}
        assert set(_images(cluster).values()) == {f"tallystream:{__version__}"}

        # What failed is there to be looked at, and in nobody's way.
        assert ("Job", MIGRATE) in after
        jobs.succeeds = lambda _: True
        # Helm takes the refused rollback for one that is under way, until another one is done.
        _done(_helm(cluster, "rollback", RELEASE, "2"))
        assert {key: _content(each) for key, each in _mine(cluster).items()} == {
            key: _content(each) for key, each in before.items()
        }
        _done(_helm(cluster, "upgrade", RELEASE, CHART, f"--values={TRIAL}"))
        _done(_helm(cluster, "uninstall", RELEASE))
    assert _mine(cluster) == {}


def test_a_failed_migration_installs_nothing(cluster: Cluster) -> None:
    """No pod of the program is made before the schema is there."""
    with Finisher(cluster, NAMESPACE, succeeds=lambda _: False) as jobs:
        assert _helm(cluster, "install", RELEASE, CHART, f"--values={TRIAL}").returncode != 0
        assert cluster.all("Deployment", NAMESPACE) == []
        jobs.succeeds = lambda _: True
        _done(_helm(cluster, "upgrade", "--install", RELEASE, CHART, f"--values={TRIAL}"))
        assert set(_images(cluster)) == {"shop", "compactor"}
        _done(_helm(cluster, "uninstall", RELEASE))
    assert _mine(cluster) == {}


def test_a_warning_would_be_seen(cluster: Cluster, tmp_path: Path) -> None:
    """A chart whose pods may be root is warned about, so that silence above means something."""
    copy = tmp_path / "tallystream"
    shutil.copytree(CHART, copy)
    template = copy / "templates" / "_pod.tpl"
    template.write_text(template.read_text().replace("runAsNonRoot: true", "runAsNonRoot: false"))
    done = _helm(cluster, "install", RELEASE, copy, f"--values={TRIAL}", "--dry-run=server")
    with Finisher(cluster, NAMESPACE):
        done = _helm(cluster, "install", RELEASE, copy, f"--values={TRIAL}", "--set-json=migration.enabled=false")
        assert done.returncode == 0
        assert WARNING.search(done.stderr + done.stdout)
        _done(_helm(cluster, "uninstall", RELEASE))


def _content(each: Object) -> str:
    """An object without what the server writes about its history."""
    metadata = {key: each["metadata"].get(key) for key in ("name", "labels", "annotations")}
    return json.dumps(
        {**{key: each[key] for key in ("spec", "data") if key in each}, "metadata": metadata}, sort_keys=True
    )


def test_every_kind_of_the_chart_is_looked_for() -> None:
    """Nothing can be left behind because nobody looked."""
    assert {each["kind"] for values in VALUES for each in render(values)} <= KINDS.keys()
    assert of_kind(render(FULL), "PrometheusRule")
