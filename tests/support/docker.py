"""Docker, where it answers."""

import contextlib
import subprocess
from functools import cache
from typing import Any

ANSWER_TIMEOUT_S = 5


@cache
def docker_answers() -> bool:
    """Whether a Docker engine answers; asked once per test run."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        asked = ["docker", "version", "--format", "{{.Server.Version}}"]
        subprocess.run(asked, check=True, capture_output=True, timeout=ANSWER_TIMEOUT_S)
        return True
    return False


def container(image: str, port: int, inside: int, env: dict[str, str]) -> Any:  # noqa: ANN401 - testcontainers comes late
    """A container, not started, whose port `inside` is `port` on this machine: it comes back on the same one."""
    # Imported late: a run without Docker needs no Docker client.
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415

    return DockerContainer(image).with_bind_ports(inside, port).with_envs(**env)
