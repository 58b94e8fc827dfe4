"""The dashboard in the types of Grafana's own library: Grafana passes over what it does not know, and says nothing."""

import json
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

FILE = Path(__file__).resolve().parents[2] / "helm" / "tallystream" / "files" / "dashboard.json"
TEXT = FILE.read_text(encoding="utf-8")


def problems(text: str) -> set[str]:
    """Where the library has no such key or no such word, or takes another value."""
    register_default_plugins()
    read = Dashboard.from_json(json.loads(text))
    return {*_lost(json.loads(text), json.loads(json.dumps(read, cls=JSONEncoder)), ""), *_unknown(read, "")}


def _lost(ours: object, theirs: object, path: str) -> Iterator[str]:
    """What of ours they have no place for."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            if key in theirs:
                yield from _lost(value, theirs[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}"
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from _lost(one, other, f"{path}[{index}]")
    elif ours != theirs:
        yield path


def _unknown(value: object, path: str) -> Iterator[str]:
    """The words that are none of an enumeration's, and what the library has no type for at all."""
    if isinstance(value, list):
        for index, each in enumerate(value):
            yield from _unknown(each, f"{path}[{index}]")
    if not hasattr(value, "to_json"):
        return
    hints = get_type_hints(type(value))
    for name, each in vars(value).items():
        kinds = {kind for kind in (hints[name], *get_args(hints[name])) if isinstance(kind, type)}
        words = {str(word.value) for kind in kinds if issubclass(kind, StrEnum) for word in kind}
        if words and isinstance(each, str) and each not in words and str not in kinds:
            yield f"{path}.{name}"
        # A panel of a kind that it does not know keeps its options as they are.
        if name == "options" and isinstance(each, dict) and hasattr(value, "grid_pos"):
            yield f"{path}.{name}"
        yield from _unknown(each, f"{path}.{name}")


def test_grafana_knows_every_word() -> None:
    """Keys, options of each kind of panel, and the words of its enumerations."""
    assert problems(TEXT) == set()


@pytest.mark.parametrize(
    ("found", "put", "path"),
    [
        ('"graphTooltip": 1', '"graphToolTip": 1', ".graphToolTip"),
        ('"colorMode": "background"', '"colorMode": "rainbow"', ".panels[1].options.color_mode"),
        ('"reduceOptions"', '"reduceOption"', ".panels[1].options.reduceOption"),
        ('"legendFormat"', '"legend"', ".panels[1].targets[0].legend"),
        ('"type": "stat"', '"type": "stats"', ".panels[1].options"),
    ],
)
def test_a_mistake_would_be_found(found: str, put: str, path: str) -> None:
    """An unknown key anywhere, an unknown word, a kind of panel that there is not."""
    assert found in TEXT
    assert path in problems(TEXT.replace(found, put, 1))
