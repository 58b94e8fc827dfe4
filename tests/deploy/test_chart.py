"""The Helm chart, rendered by Helm: valid objects, settings that the program takes, hooks that have what they need."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ingest import __version__
from ingest.domain.declarations import read_declarations
from ingest.kafka.options import check_options
from ingest.observability.metrics import WORKER
from ingest.settings import Settings, load_settings
from tests.support.chart import (
    CHART,
    VALUES,
    Object,
    RefusedError,
    hook,
    named,
    needs,
    of_kind,
    pods,
    render,
    run_helm,
    template,
)
from tests.support.go_programs import NEEDS_GO, custom_resource_definitions, kubectl_validate

FULL, MINIMAL, TRIAL = (CHART / "ci" / f"{name}-values.yaml" for name in ("full", "minimal", "trial"))
KUBERNETES_VERSIONS = ("1.25", "1.30")
DSN = "postgresql://tallystream_ingest@postgres/shop"

pytestmark = NEEDS_GO

each_set = pytest.mark.parametrize("values", VALUES, ids=lambda path: path.name.removesuffix("-values.yaml"))


def _validate(folder: Path, manifests: str, version: str) -> str:
    file = folder / "rendered.yaml"
    file.write_text(manifests, encoding="utf-8")
    command: list[str | Path] = [
        kubectl_validate(),
        file,
        f"--version={version}",
        f"--local-crds={custom_resource_definitions()}",
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@each_set
def test_helm_finds_nothing_to_complain_about(values: Path) -> None:
    """No error and no warning."""
    assert "0 chart(s) failed" in run_helm("lint", "--strict", f"--values={values}", str(CHART))


@each_set
@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_every_object_is_valid(values: Path, version: str, tmp_path: Path) -> None:
    """By the API server's own schemas, and by those of KEDA and the Prometheus operator."""
    assert _validate(tmp_path, template(values), version) == ""


@pytest.mark.parametrize(
    "misspelt", ["scaleTargetRef", "podMetricsEndpoints", "securityContext", "terminationGracePeriodSeconds"]
)
def test_a_misspelt_field_would_be_found(misspelt: str, tmp_path: Path) -> None:
    """The check above sees native objects and custom ones."""
    manifests = template(FULL)
    assert misspelt in manifests
    assert misspelt in _validate(tmp_path, manifests.replace(f"{misspelt}:", f"{misspelt}s:"), "1.30")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ('consumer={"topics": ["a"]}', "additional properties 'consumer' not allowed"),
        ("consumers.shop.replica=2", "additional properties 'replica' not allowed"),
        ("consumers.shop.batch.max_rows=2", "additional properties 'max_rows' not allowed"),
        ("settings.batch_max_movement=2", "additional properties 'batch_max_movement' not allowed"),
        ("settings.stop_budget_ms=0", "minimum"),
        ('settings.log_level="loud"', "must be one of"),
        ('settings.topics=["a"]', "additional properties 'topics' not allowed"),
        ('registers.shop="[register.a]"', "does not match pattern"),
        ("consumers.shop.topics=[]", "minItems"),
        ('consumers.compactor={"topics": ["other"]}', "compactor"),
        ('consumers.tills={"topics": ["shop-events"]}', "the topic shop-events is read by shop and by tills"),
        ('consumers.tills={"topics": ["a"], "group": "tallystream-shop"}', "have the same group tallystream-shop"),
        ('postgres.dsn="postgresql://a/b"', "not both"),
        ('postgres.existingSecret=""', "give existingSecret"),
        ('kafka.bootstrapServers=""', "give bootstrapServers"),
        ('kafka.secretOptions={"sasl.password": "password"}', "give existingSecret"),
        ('secretSettings.keys={"schema_registry_password": "password"}', "give existingSecret"),
        ('settings.schema_registry_password="secret"', "'schema_registry_password' not allowed"),
        ('image.digest="latest"', "does not match pattern"),
    ],
)
def test_what_is_wrong_with_the_values_is_said(override: str, said: str) -> None:
    """An unknown key, a setting out of bounds, and what only makes sense together."""
    with pytest.raises(RefusedError) as refused:
        template(MINIMAL, override)
    assert said in str(refused.value)


def test_two_declarations_of_one_file_name_are_refused() -> None:
    """One of them would silently be the one that is applied."""
    with pytest.raises(
        RefusedError, match=re.escape("the file name shop.toml is used twice, once by the consumer shop")
    ):
        template(TRIAL, 'registers={"shop.toml": "[register.a]"}')


@each_set
def test_the_program_takes_the_settings_of_every_container(values: Path, tmp_path: Path) -> None:
    """The environment and the files that a container sees, read by the program's own loader."""
    objects = render(values)
    for maker, spec in pods(objects):
        settings = _settings(objects, spec, tmp_path / maker["metadata"]["name"])
        check_options(settings.kafka_options)
        assert settings.postgres_dsn.get_secret_value() == DSN
        assert settings.log_format == "json"
        (arguments,) = [container["args"] for container in spec["containers"]]
        if arguments == ["run"]:
            settings.require("postgres_dsn", "kafka_bootstrap_servers", "topics")
        if maker["kind"] == "Deployment":
            assert (settings.http_host, settings.http_port) == ("0.0.0.0", 9480)  # noqa: S104 - in a container
            assert spec["terminationGracePeriodSeconds"] * 1000 > settings.stop_budget_ms + 5000


def test_what_the_values_say_arrives(tmp_path: Path) -> None:
    """A consumer's settings win over the common ones; large numbers, lists, options and secrets are what they were."""
    objects = render(FULL)
    pod = named(objects, "Deployment", "books-tallystream-shop")["spec"]["template"]["spec"]
    shop = _settings(objects, pod, tmp_path)
    assert {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4318"} in pod["containers"][0]["env"]
    assert shop.topics == ("shop-events", "shop-corrections")
    assert (shop.group, shop.group_protocol, shop.log_level) == ("shop", "consumer", "warning")
    assert (shop.batch_max_movements, shop.batch_max_bytes, shop.flush_after_ms) == (50_000, 67_108_864, 500)
    assert (shop.batch_retention_days, shop.stop_budget_ms) == (90, 45_500)
    assert shop.schema_registry_password.get_secret_value() == "the password"
    assert shop.kafka_options == {
        "fetch.max.bytes": "104857600",
        "sasl.mechanism": "SCRAM-SHA-512",
        "security.protocol": "SASL_SSL",
        "socket.keepalive.enable": "true",
        "ssl.ca.location": "/etc/kafka-ca/ca.crt",
        "sasl.username": "the username",
        "sasl.password": "the password",
    }


@each_set
def test_the_declarations_are_ones_that_the_program_applies(values: Path) -> None:
    """The job is given every file, of the chart and of its consumers, and each declares registers."""
    objects = render(values)
    given = yaml.safe_load(values.read_text())
    wanted = dict(given.get("registers", {}))
    for consumer in given["consumers"].values():
        wanted |= consumer.get("registers", {})
    maps = [each for each in of_kind(objects, "ConfigMap") if each["metadata"]["name"].endswith("-migrate-registers")]
    assert len(maps) == bool(wanted)
    for each in maps:
        assert sorted(each["data"]) == sorted(wanted)
        assert len(read_declarations(each["data"].items())) == len(wanted)
        job = named(objects, "Job", each["metadata"]["name"])["spec"]["template"]["spec"]
        (container,) = job["containers"]
        assert container["args"] == [
            "register",
            "apply",
            *(f"/etc/tallystream-registers/{name}" for name in sorted(wanted)),
        ]
        assert "/etc/tallystream-registers" in {mount["mountPath"] for mount in container["volumeMounts"]}


@each_set
def test_a_pod_finds_what_it_mounts(values: Path) -> None:
    """A hook's pod needs hooks that come before it, for the release does not exist yet; or what the user has made."""
    objects = render(values)
    theirs = set(re.findall(r"(?:existingSecret|secretName|name): *([\w-]+)", values.read_text()))
    for maker, spec in pods(objects):
        for kind, name in needs(spec):
            found = [each for each in of_kind(objects, kind) if each["metadata"]["name"] == name]
            if not found:
                assert name in theirs, f"{maker['metadata']['name']}: there is no {kind} {name}"
                continue
            (needed,) = found
            mine, its = hook(maker), hook(needed)
            if mine is None:
                assert its is None, f"{name} is gone when its hooks have run"
            else:
                assert its is not None
                assert its[0] >= mine[0]
                assert its[1] < mine[1]


@each_set
def test_every_pod_is_restricted(values: Path) -> None:
    """No privileges, no root, no token, nothing to write to but what is mounted; probes that ask the program."""
    for maker, spec in pods(render(values)):
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        (container,) = spec["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
        if maker["kind"] == "Deployment":
            assert container["livenessProbe"]["httpGet"] == {"path": "/live", "port": "http"}
            assert container["readinessProbe"]["httpGet"] == {"path": "/ready", "port": "http"}
            assert container["startupProbe"]["httpGet"] == {"path": "/live", "port": "http"}


def test_a_changed_setting_restarts_the_pods_that_it_is_for() -> None:
    """And no others; a new chart with the same program restarts none."""
    before = _annotations(render(FULL))
    after = _annotations(render(FULL, "consumers.tills.settings.flush_after_ms=300"))
    assert {name for name, annotations in before.items() if annotations != after[name]} == {"books-tallystream-tills"}
    everywhere = _annotations(render(FULL, "settings.retry_max_ms=5000"))
    assert all(everywhere[name] != annotations for name, annotations in before.items())


@each_set
def test_what_can_never_change_does_not_say_a_version(values: Path) -> None:
    """Selectors are immutable; pods are found by what stays the same from one version to the next."""
    for each in of_kind(render(values), "Deployment"):
        selector = each["spec"]["selector"]["matchLabels"]
        assert not set(selector) & {"app.kubernetes.io/version", "helm.sh/chart"}
        assert selector.items() <= each["spec"]["template"]["metadata"]["labels"].items()
        assert "helm.sh/chart" not in each["spec"]["template"]["metadata"]["labels"]


def test_autoscaling_watches_the_consumers_own_topics() -> None:
    """One trigger per topic with the group whose offsets follow the positions, and one on the lag that we report."""
    objects = render(FULL)
    scaled = named(objects, "ScaledObject", "books-tallystream-shop")["spec"]
    assert "replicas" not in named(objects, "Deployment", "books-tallystream-shop")["spec"]
    kafka = [trigger["metadata"] for trigger in scaled["triggers"] if trigger["type"] == "kafka"]
    assert [(each["topic"], each["consumerGroup"], each["lagThreshold"]) for each in kafka] == [
        ("shop-events", "shop", "50000"),
        ("shop-corrections", "shop", "50000"),
    ]
    (only,) = named(objects, "ScaledObject", "books-tallystream-tills")["spec"]["triggers"]
    assert only["metadata"]["query"] == (
        'sum(max by (topic, partition) (tallystream_lag_records{namespace="shop", topic=~"till[.]events"}))'
    )
    assert only["authenticationRef"] == {"name": "keda-prometheus"}
    (lag,) = [metric for metric in WORKER if metric.name == "tallystream_lag_records"]
    assert lag.labels == ("topic", "partition")


def test_rules_and_dashboard_are_the_files_themselves() -> None:
    """What promtool and the table of metrics have checked is what the cluster gets, to the letter."""
    objects = render(FULL)
    rule = named(objects, "PrometheusRule", "books-tallystream")
    assert rule["spec"] == yaml.safe_load((CHART / "files" / "alerts.yaml").read_text(encoding="utf-8"))
    dashboard = named(objects, "ConfigMap", "books-tallystream-dashboard")["data"]["tallystream.json"]
    assert json.loads(dashboard) == json.loads((CHART / "files" / "dashboard.json").read_text(encoding="utf-8"))


def test_versions_and_defaults_are_the_programs() -> None:
    """The chart's appVersion, and the one default of the program that a template has to know."""
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == __version__
    default = Settings.model_fields["stop_budget_ms"].default
    assert f'dict "stop_budget_ms" {default}' in (CHART / "templates" / "_helpers.tpl").read_text()


def _annotations(objects: list[Object]) -> dict[str, Object]:
    return {
        each["metadata"]["name"]: each["spec"]["template"]["metadata"]["annotations"]
        for each in of_kind(objects, "Deployment")
    }


def _settings(objects: list[Object], spec: Object, folder: Path) -> Settings:
    """What the program reads in the pod's container: its files laid out in a folder, its environment pointing there."""
    (container,) = spec["containers"]
    for path, text in _files(objects, spec):
        file = folder / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    mounted = tuple(mount["mountPath"] for mount in container["volumeMounts"])
    environ = {
        variable["name"]: f"{folder}{variable['value']}" if variable["value"].startswith(mounted) else variable["value"]
        for variable in container["env"]
    }
    return load_settings(environ)


def _files(objects: list[Object], spec: Object) -> Iterator[tuple[str, str]]:
    (container,) = spec["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    for volume in spec["volumes"]:
        if "configMap" in volume:
            for name, text in named(objects, "ConfigMap", volume["configMap"]["name"])["data"].items():
                yield f"{mounts[volume['name']]}/{name}", text
        for source in volume.get("projected", {}).get("sources", []):
            for item in source["secret"]["items"]:
                text = DSN if item["path"] == "postgres-dsn" else f"the {item['key']}"
                yield f"{mounts[volume['name']]}/{item['path']}", f"{text}\n"
