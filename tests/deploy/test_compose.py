"""docker-compose.yml, by the Compose specification's own loader, and what can be tried of it without containers."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ingest.settings import load_settings
from tests.support.downloads import ROOT
from tests.support.go_programs import NEEDS_GO, compose_config
from tests.support.lacking import skip_for
from tests.support.local_kafka import FORMAT_FLAGS, STORAGE_TOOL, _class_path
from tests.support.local_kafka import missing as kafka_is_missing
from tests.support.local_postgres import LocalPostgres
from tests.support.program import run_tallystream
from tests.support.prometheus import Tools
from tests.support.versions import KAFKA_IMAGE, POSTGRES_IMAGE

Project = dict[str, Any]

FILE = ROOT / "docker-compose.yml"
OURS = ("migrate", "registers", "consumer", "compactor", "load")

pytestmark = NEEDS_GO


def _load(file: Path = FILE, profile: str = "*") -> Project:
    done = subprocess.run(
        [compose_config(), f"-profile={profile}", file], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    project: Project = json.loads(done.stdout)
    return project


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """All of them, with the profile."""
    found: dict[str, Any] = _load()["services"]
    return found


def test_both_profiles_are_valid(services: dict[str, Any]) -> None:
    """Load is made only where it is asked for."""
    assert set(services) - set(_load(profile="none")["services"]) == {"load"}


@pytest.mark.parametrize(
    ("found", "put", "said"),
    [
        ("    stop_grace_period:", "    stop_grace_periode:", "stop_grace_periode"),
        ("kafka: {condition: service_healthy}", "kafak: {condition: service_healthy}", "kafak"),
        ("condition: service_healthy", "condition: service_well", "condition"),
    ],
)
def test_a_mistake_would_be_found(found: str, put: str, said: str, tmp_path: Path) -> None:
    """An unknown key, a service that does not exist, a condition that does not."""
    text = FILE.read_text(encoding="utf-8")
    assert found in text
    (tmp_path / "docker-compose.yml").write_text(text.replace(found, put), encoding="utf-8")
    done = subprocess.run(
        [compose_config(), tmp_path / "docker-compose.yml"], check=False, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert said in done.stderr


def test_who_waits_waits_for_something_that_comes(services: dict[str, Any]) -> None:
    """For a health check where there is one, for an end where there is one."""
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert services[other]["healthcheck"]["test"], f"{name} waits for {other}"
            else:
                assert how["condition"] == "service_completed_successfully"
                assert "restart" not in services[other], f"{name} waits for the end of {other}"


def test_our_containers_have_no_rights(services: dict[str, Any]) -> None:
    """A root file system that cannot be written to, no capabilities, and the image's own user."""
    for name in OURS:
        service = services[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "user" not in service
        assert "privileged" not in service


def test_only_this_machine_reaches_it(services: dict[str, Any]) -> None:
    """The passwords are for a laptop."""
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert len(ports) == 4
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}


def test_the_images_are_the_versions_that_are_tested(services: dict[str, Any]) -> None:
    """And no other is without a version."""
    assert services["kafka"]["image"] == services["topics"]["image"] == KAFKA_IMAGE
    assert services["postgres"]["image"] == POSTGRES_IMAGE
    assert {services[name]["image"] for name in OURS} == {"tallystream"}
    assert all(re.search(r":v?\d", services[name]["image"]) for name in set(services) - set(OURS))


def test_the_program_takes_its_settings(services: dict[str, Any]) -> None:
    """Two consumers, and time enough to finish a batch when they are stopped."""
    for name in OURS:
        settings = load_settings({key: str(value) for key, value in services[name]["environment"].items()})
        if name in {"consumer", "compactor"}:
            settings.require("postgres_dsn", "kafka_bootstrap_servers", "topics")
            seconds = int(services[name]["stop_grace_period"].removesuffix("s"))
            assert seconds * 1000 > settings.stop_budget_ms
    assert services["consumer"]["deploy"]["replicas"] == 2


def test_what_is_mounted_is_there(services: dict[str, Any]) -> None:
    """A path that does not exist would become an empty folder."""
    binds = [
        Path(volume["source"])
        for service in services.values()
        for volume in service.get("volumes", [])
        if volume["type"] == "bind"
    ]
    assert len(binds) >= 7
    assert [path for path in binds if not path.exists()] == []


def test_prometheus_and_grafana_look_where_the_program_is(services: dict[str, Any]) -> None:
    """The services' names and the image's port; a dashboard asks the data source by its identifier."""
    prometheus = yaml.safe_load((ROOT / "docker" / "prometheus.yml").read_text())
    (job,) = prometheus["scrape_configs"]
    (discovery,) = job["dns_sd_configs"]
    assert set(discovery["names"]) == {"consumer", "compactor"} <= set(services)
    assert f"TALLYSTREAM_HTTP_PORT={discovery['port']}" in (ROOT / "Dockerfile").read_text()
    (source,) = yaml.safe_load((ROOT / "docker" / "grafana" / "datasource.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"


def test_prometheus_takes_its_settings(prometheus_tools: Tools, tmp_path: Path) -> None:
    """And the rules with them, where Compose mounts them."""
    text = (ROOT / "docker" / "prometheus.yml").read_text(encoding="utf-8")
    assert "/etc/prometheus/rules.yml" in text
    assert "./helm/tallystream/files/alerts.yaml:/etc/prometheus/rules.yml:ro" in FILE.read_text(encoding="utf-8")
    rules = ROOT / "helm" / "tallystream" / "files" / "alerts.yaml"
    (tmp_path / "prometheus.yml").write_text(text.replace("/etc/prometheus/rules.yml", str(rules)), encoding="utf-8")
    assert "SUCCESS" in prometheus_tools.check("check", "config", tmp_path / "prometheus.yml")


def test_kafka_understands_its_settings(services: dict[str, Any], tmp_path: Path) -> None:
    """What the image makes of the environment, given to Kafka's own storage tool."""
    if reason := kafka_is_missing():
        skip_for(reason)
    environment = services["kafka"]["environment"]
    settings = {key.removeprefix("KAFKA_").replace("_", ".").lower(): value for key, value in environment.items()}
    properties = tmp_path / "server.properties"
    properties.write_text("".join(f"{key}={value}\n" for key, value in (settings | {"log.dirs": tmp_path}).items()))
    java = ["java", *FORMAT_FLAGS, "-Dlog4j2.level=ERROR", "-cp", _class_path(), STORAGE_TOOL]
    uuid = "T4wn_9ULRCOP1uZ4Sjx1yA"
    done = subprocess.run([*java, "format", "-t", uuid, "-c", properties], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Formatting" in done.stdout


def test_the_roles_are_those_that_the_program_needs(services: dict[str, Any], tmp_path: Path) -> None:
    """The script of PostgreSQL's image, run by psql; then the schema by the owner, and the worker's role at work."""
    server = LocalPostgres(durable=False)
    try:
        server.start()
        secret = services["postgres"]["environment"]["TALLYSTREAM_PASSWORD"]
        subprocess.run(
            [
                server.program("psql"),
                "--no-psqlrc",
                f"--dbname={server.dsn}",
                f"--file={ROOT / 'docker' / 'roles.sql'}",
            ],
            check=True,
            capture_output=True,
            env={**os.environ, "TALLYSTREAM_PASSWORD": secret},
        )

        def environment(name: str) -> dict[str, str]:
            wanted = conninfo_to_dict(services[name]["environment"]["TALLYSTREAM_POSTGRES_DSN"])
            dsn = make_conninfo(server.dsn, **{key: wanted[key] for key in ("user", "password", "dbname")})
            return {"TALLYSTREAM_POSTGRES_DSN": dsn}

        run_tallystream(*services["migrate"]["command"], env=environment("migrate")).check()
        *apply, _ = services["registers"]["command"]
        (mounted,) = services["registers"]["volumes"]
        file = Path(mounted["source"]) / "shop.toml"
        run_tallystream(*apply, str(file), env=environment("registers")).check()
        listed = run_tallystream("register", "list", env=environment("consumer")).check().out
        assert "inventory" in listed
        assert "sales" in listed
        other = tmp_path / "other.toml"
        other.write_text(file.read_text().replace("register.sales", "register.other"))
        refused = run_tallystream(*apply, str(other), env=environment("compactor"))
        assert refused.code != 0, "the worker's role declares nothing"
    finally:
        server.close()
