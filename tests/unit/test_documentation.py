"""What the documentation promises about itself, as far as it can be seen without building it."""

import re
import tomllib

import pytest
import yaml

from ingest.cli import app
from ingest.domain.declarations import read_declarations
from ingest.settings import Settings
from tests.support.downloads import ROOT
from tests.support.pages import DOCS, blocks, page

PAGES = sorted(path.name for path in DOCS.glob("*.md"))
ALERTS = yaml.safe_load((ROOT / "helm" / "tallystream" / "files" / "alerts.yaml").read_text(encoding="utf-8"))


def test_every_page_is_in_the_sites_menu() -> None:
    """And the menu names no page that is not there."""
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    assert sorted(re.findall(r"[\w-]+\.md", menu)) == PAGES


def test_every_alert_has_its_chapter_in_the_runbook() -> None:
    """Under its own name, where the alert says that it is, and no chapter for an alert that is not there."""
    rules = [rule for group in ALERTS["groups"] for rule in group["rules"]]
    chapters = re.findall(r"^### (Tallystream\w+)$", page("operating.md"), re.MULTILINE)
    assert sorted(chapters) == sorted(rule["alert"] for rule in rules)
    assert {rule["annotations"]["runbook"] for rule in rules} == {
        f"docs/operating.md#{chapter.lower()}" for chapter in chapters
    }


@pytest.mark.parametrize("name", PAGES)
def test_commands_that_are_named_exist(name: str) -> None:
    """`tallystream X` and `tallystream X Y` are commands of the program."""
    known = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    named = set(re.findall(r"(?:`|^|exec \w+ )tallystream ([a-z][a-z-]+)", page(name), re.MULTILINE))
    assert named <= known


@pytest.mark.parametrize("name", ["operating.md", "deploying.md", "producing.md", "formats.md"])
def test_settings_that_are_named_exist(name: str) -> None:
    """A word in code that looks like a setting with its unit is one."""
    text = page(name)
    words = set(re.findall(r"`([a-z]+(?:_[a-z]+)+_(?:ms|days|movements|events|bytes|deltas|row|url|topic))`", text))
    words |= {name.lower() for name in re.findall(r"TALLYSTREAM_([A-Z_]+?)(?:_FILE)?\b", text) if name != "CONFIG"}
    assert words <= set(Settings.model_fields)


@pytest.mark.parametrize("name", PAGES)
def test_declarations_are_ones(name: str) -> None:
    """Every block of TOML that declares a register is one that `register apply` takes."""
    for block in blocks(name, "toml"):
        if "[register." in block.text:
            assert read_declarations([(name, block.text)])
        else:
            tomllib.loads(block.text)


@pytest.mark.parametrize("name", PAGES)
def test_yaml_is_yaml(name: str) -> None:
    """What can be copied from a page can be read."""
    for block in blocks(name, "yaml"):
        assert yaml.safe_load(block.text)
