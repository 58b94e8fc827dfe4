"""The Helm chart as tests see it: rendered with real values by the real Helm, read as objects."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.support.downloads import ROOT
from tests.support.go_programs import helm

Object = dict[str, Any]

CHART = ROOT / "helm" / "tallystream"
VALUES = sorted((CHART / "ci").glob("*-values.yaml"))
RELEASE = "books"
TIMEOUT_S = 120


class RefusedError(Exception):
    """What Helm says against the values."""


def render(values: Path, *overrides: str, chart: Path = CHART) -> list[Object]:
    """All objects, hooks included; `overrides` are `key=value` as for --set-json."""
    return [each for each in yaml.safe_load_all(template(values, *overrides, chart=chart)) if each]


def template(values: Path, *overrides: str, chart: Path = CHART) -> str:
    flags = [f"--set-json={override}" for override in overrides]
    return run_helm("template", RELEASE, str(chart), f"--values={values}", "--namespace=shop", *flags)


def run_helm(*arguments: str) -> str:
    done = subprocess.run([helm(), *arguments], check=False, capture_output=True, text=True, timeout=TIMEOUT_S)
    if done.returncode:
        raise RefusedError(done.stderr + done.stdout)
    return done.stdout


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    return [each for each in objects if each["kind"] in kinds]


def named(objects: list[Object], kind: str, name: str) -> Object:
    (found,) = [each for each in of_kind(objects, kind) if each["metadata"]["name"] == name]
    return found


def pods(objects: list[Object]) -> Iterator[tuple[Object, Object]]:
    """Each object that makes pods, with their specification."""
    for each in of_kind(objects, "Deployment", "Job"):
        yield each, each["spec"]["template"]["spec"]


def hook(each: Object) -> tuple[set[str], int] | None:
    """The events that an object is a hook of, and its weight; none for what belongs to the release."""
    annotations = each["metadata"].get("annotations", {})
    events = annotations.get("helm.sh/hook")
    return (set(events.split(",")), int(annotations["helm.sh/hook-weight"])) if events else None


def needs(spec: Object) -> set[tuple[str, str]]:
    """What has to exist before a pod can start: kind and name."""
    found = {("ServiceAccount", spec["serviceAccountName"])}
    for volume in spec["volumes"]:
        found |= {("ConfigMap", volume["configMap"]["name"])} if "configMap" in volume else set()
        found |= {("Secret", volume["secret"]["secretName"])} if "secret" in volume else set()
        sources = volume.get("projected", {}).get("sources", [])
        found |= {("Secret", source["secret"]["name"]) for source in sources}
    return found


def as_json(each: Object) -> str:
    return json.dumps(each, indent=2, sort_keys=True)
