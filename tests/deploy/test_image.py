"""The image, as far as it can be known without Docker: its build stage is run, and the result on a read-only root."""

import json
import re
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest import __version__
from tests.support.dockerfile import Build, Stage, context, stages
from tests.support.downloads import ROOT
from tests.support.lacking import skip_for
from tests.support.postgres import Database
from tests.support.processes import Server, free_ports, is_root
from tests.support.waiting import wait_until

USER = 10001
HEALTHY_TIMEOUT_S = 60

# A mount namespace of its own, all of it read-only, and a user who has no name.
READ_ONLY = """\
mount --make-rprivate / && mount --rbind / / && mount -o remount,bind,ro / || exit 97
for folder in /tmp /var/tmp; do ! mountpoint -q "$folder" || mount -o remount,bind,ro "$folder"; done
if touch /tmp/probe /var/tmp/probe 2>/dev/null; then exit 98; fi
exec setpriv --reuid "$USER_ID" --regid "$USER_ID" --clear-groups --no-new-privs --bounding-set=-all "$@"
"""


@pytest.fixture(scope="module")
def dockerfile() -> list[Stage]:
    """The two stages."""
    return stages((ROOT / "Dockerfile").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def built(dockerfile: list[Stage]) -> Iterator[Build]:
    """The first stage, run in a folder that any user can read."""
    folder = Path(tempfile.mkdtemp(prefix="ts-image-", dir="/var/tmp"))
    folder.chmod(0o755)
    build = Build(folder)
    build.run(dockerfile[0])
    yield build
    shutil.rmtree(folder)


def test_the_context_is_what_the_image_is_built_from() -> None:
    """Sources, lists of dependencies, and nothing else: no history, no tests, no environment, no file of secrets."""
    tops = {file.parts[0] for file in context()}
    assert tops == {
        "ingest", "sql", "schema", "requirements", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE",
    }  # fmt: skip
    assert {file.name for file in context() if file.parts[0] == "requirements"} == {
        "build.lock", "runtime.lock", "full.lock",
    }  # fmt: skip


def test_the_image_holds_the_environment_alone(dockerfile: list[Stage]) -> None:
    """The last stage copies from the first and from nowhere else, runs nothing, and runs as a number."""
    build, final = dockerfile
    assert build.image == final.image
    assert final.all("COPY") == ["--from=build /opt/tallystream /opt/tallystream"]
    assert final.all("RUN") + final.all("ADD") + build.all("ADD") == []
    assert final.all("USER") == [f"{USER}:{USER}"]
    assert final.all("ENTRYPOINT") == ['["tallystream"]']
    (check,) = final.all("HEALTHCHECK")
    assert "/live" in check


def test_everything_is_installed_by_its_hash(dockerfile: list[Stage]) -> None:
    """No version is chosen while the image is built, and the wheel is built without fetching tools."""
    installs = [command for command in dockerfile[0].all("RUN") if " install " in command]
    assert len(installs) == 3
    assert all("--require-hashes" in command or "--no-index --no-deps" in command for command in installs)
    (wheel,) = [command for command in dockerfile[0].all("RUN") if "pip wheel" in command]
    assert "--no-deps --no-build-isolation" in wheel


def test_the_python_is_one_that_is_tested(dockerfile: list[Stage]) -> None:
    """The image's Python is what the lists of dependencies are made for."""
    arguments = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lowest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert f"ARG PYTHON={lowest.removeprefix('>=')}\n" in arguments
    assert dockerfile[0].image == "python:${PYTHON}-slim-bookworm"


def _pinned(name: str) -> dict[str, str]:
    lock = (ROOT / "requirements" / f"{name}.lock").read_text(encoding="utf-8")
    return dict(line.split()[0].split("==") for line in lock.splitlines() if "==" in line)


def test_the_full_image_has_the_extras_besides(dockerfile: list[Stage]) -> None:
    """The same versions of what both have, and every extra that a worker may be told to use."""
    assert "PACKAGES=runtime" in dockerfile[0].all("ARG")
    full = _pinned("full")
    assert _pinned("runtime").items() <= full.items()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = {re.split(r"[>=<\[]", each)[0] for extra in ("avro", "protobuf", "tracing") for each in extras[extra]}
    assert wanted - {"tallystream"} <= full.keys()


@pytest.mark.slow
def test_the_environment_is_the_wheel_and_the_pinned_packages(built: Build) -> None:
    """What runtime.lock lists and this machine needs, tallystream from its wheel, and no pip."""
    programs = built.at("/opt/tallystream/bin")
    listing = subprocess.run(
        [built.at("/image/bin/pip"), "--python", programs / "python", "list", "--format=json"],
        check=True,
        capture_output=True,
        text=True,
    )
    installed = {
        package["name"].lower().replace("_", "-"): package["version"] for package in json.loads(listing.stdout)
    }
    assert installed.pop("tallystream") == __version__
    assert installed.items() <= _pinned("runtime").items()
    assert {"confluent-kafka", "psycopg", "psycopg-binary", "pydantic"} <= installed.keys()
    assert not (programs / "pip").exists()


@pytest.mark.slow
def test_it_works_on_a_read_only_root_as_nobody_in_particular(
    dockerfile: list[Stage], built: Build, empty_database: Database, tmp_path: Path
) -> None:
    """Migrations, declarations, the compactor and the health check, with nothing anywhere that could be written to."""
    if not is_root():
        skip_for("only root can make its own root file system read-only")
    registers = built.at("/opt/shop.toml")
    shutil.copyfile(ROOT / "schema" / "registers" / "demo" / "shop.toml", registers)

    (port,) = free_ports(1)
    env = {
        "PATH": f"{built.at('/opt/tallystream/bin')}:/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME": "/tmp",  # noqa: S108 - as in the image
        "USER_ID": str(USER),
        "TALLYSTREAM_HTTP_PORT": str(port),
        "TALLYSTREAM_POSTGRES_DSN": empty_database.dsn,
        "TALLYSTREAM_ALLOW_PRIVILEGED_ROLE": "true",
    }
    alone = ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh"]

    def run(*arguments: str | Path) -> str:
        command: list[str | Path] = [*alone, "tallystream", *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd="/", env=env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def is_healthy() -> bool:
        (check,) = dockerfile[1].all("HEALTHCHECK")
        command = json.loads(check.partition("CMD ")[2])
        return subprocess.run([*alone, *command], check=False, capture_output=True, cwd="/", env=env).returncode == 0

    assert "applied 0001_core" in run("migrate")
    assert "inventory: created" in run("register", "apply", registers)
    assert "inventory" in run("register", "list")
    assert not is_healthy()
    compactor = Server([*alone, "tallystream", "compact"], tmp_path / "log", env=env)
    try:
        wait_until(is_healthy, HEALTHY_TIMEOUT_S, "the image's health check finds the compactor alive")
    finally:
        compactor.stop()
    assert "stopped" in compactor.last_lines()
