"""The pages of the documentation: their code blocks, by language and title, for tests that run them."""

import re
from dataclasses import dataclass

from tests.support.downloads import ROOT

DOCS = ROOT / "docs"
_BLOCK = re.compile(
    r'^```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Block:
    """What stands between two fences."""

    language: str
    title: str
    text: str


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[Block]:
    found = (Block(match["language"], match["title"] or "", match["text"]) for match in _BLOCK.finditer(page(name)))
    return [block for block in found if block.language == language]


def titled(name: str, title: str) -> str:
    """The text of the one block that says it is this file."""
    (text,) = [match["text"] for match in _BLOCK.finditer(page(name)) if match["title"] == title]
    return text


def commands(name: str) -> list[str]:
    """The lines of the page's consoles, without what they say about themselves."""
    lines = (line for block in blocks(name, "console") for line in block.text.splitlines())
    return [line.partition(" #")[0].strip() for line in lines if line]
