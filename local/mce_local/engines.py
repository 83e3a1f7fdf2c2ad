"""Containers with Docker or Podman, through their command line.

The client stays attached (`run` without `-d`): so the exit code and the output of a container outlive `--rm`, and a
container is watched and logged like any process. Labels say whose it is, for `orphans`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from mce_api import names
from mce_local import expansion, logfiles
from mce_local.errors import LocalError
from mce_local.processes import Processes
from mce_local.runtime import INSTANCE_VARIABLE, Handle, Launch, Sample

INSTANCE_LABEL: Final = f"{names.GROUP}/local-instance"
ENDPOINT_LABEL: Final = names.ENDPOINT_LABEL
_STATS_FORMAT: Final = "{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}"
_ANSWER_SECONDS: Final = 30.0


class Engine:
    """The runtime behind `--runtime docker` and `--runtime podman`."""

    def __init__(self, program: str, env: Mapping[str, str], processes: Processes) -> None:
        self._program = program
        self._env = env
        self._clients = processes

    def start(self, launch: Launch) -> Handle:
        """Starts the attached client; pulling the image is part of the start."""
        launch = replace(launch, container=expansion.filled(launch))
        name = container_name(launch)
        passed, env = _environment(launch, self._env)
        command = [self._program, *run_arguments(launch, name, passed)]
        try:
            client = self._clients.run(command, env, launch.log)
        except OSError as error:
            raise LocalError(
                f"cannot run {self._program}: {error.strerror}; install it, or use another --runtime"
            ) from error
        return Handle(id=name, pid=client.pid, log=client.log, log_offset=client.log_offset)

    def inspect(self, handle: Handle) -> int | None:
        """The client exits with the container's exit code; 128 + n says signal n, as the engines do."""
        return self._clients.inspect(_client(handle))

    async def stop(self, handle: Handle, grace_seconds: float) -> None:
        """`stop` tells the container; the client ends with it."""
        if self.inspect(handle) is None:
            await self._ask("stop", "-t", str(int(grace_seconds)), handle.id)
        await self._clients.stop(_client(handle), grace_seconds)
        await self._ask("rm", "-f", handle.id)  # a client that was killed does not tell its container

    async def usage(self, handles: Sequence[Handle]) -> Mapping[str, Sample]:
        """As the engine reports it; Podman's CPU is the mean since the start."""
        if not handles:
            return {}
        text = await self._ask("stats", "--no-stream", "--format", _STATS_FORMAT, *(handle.id for handle in handles))
        return parse_stats(text)

    def logs(self, handle: Handle, lines: int) -> tuple[str, ...]:
        """From the log file that the client writes."""
        return logfiles.tail(handle.log, lines, handle.log_offset)

    async def _ask(self, *arguments: str) -> str:
        return await self._clients.output((self._program, *arguments), self._env, _ANSWER_SECONDS)


def container_name(launch: Launch) -> str:
    """Unique on the machine, and says to a reader of `docker ps` what it is."""
    (name,) = names.container_names((launch.container.name,))
    return f"mce-{launch.endpoint}-{name}-{launch.instance[:8]}-{launch.assigned.block}"


def run_arguments(launch: Launch, name: str, passed: Sequence[str]) -> list[str]:
    """The arguments of `docker run` and `podman run`; `passed` are the values of its `-e` options."""
    container, port = launch.container, launch.assigned.port
    options = ["run", "--rm", "--name", name]
    options += ["--label", f"{INSTANCE_LABEL}={launch.instance}", "--label", f"{ENDPOINT_LABEL}={launch.endpoint}"]
    options += ["--publish", f"127.0.0.1:{port}:{port}"]
    if container.pull:
        options += ["--pull", container.pull]
    if container.memory_bytes is not None:
        options += ["--memory", str(container.memory_bytes)]
    if container.cpu_cores is not None:
        options += ["--cpus", f"{container.cpu_cores:g}"]
    for variable in passed:
        options += ["--env", variable]
    if container.command:
        options += ["--entrypoint", container.command[0]]
    return [*options, container.image, *container.command[1:], *container.args]


def _environment(launch: Launch, own: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """The `-e` values, and the client's environment.

    A bare name makes the client pass its own value on, which keeps secrets off the command line; where the client needs
    the variable for itself (PATH, DOCKER_HOST), the value is spelled out.
    """
    wanted = {**launch.container.env, **launch.bind_env}
    passed = [f"{name}={value}" if name in own else name for name, value in wanted.items()]
    hidden = {name: value for name, value in wanted.items() if name not in own}
    return passed, {**own, **hidden, INSTANCE_VARIABLE: launch.instance}


def _client(handle: Handle) -> Handle:
    return Handle(id=str(handle.pid), pid=handle.pid, log=handle.log, log_offset=handle.log_offset)


_FACTORS: Final = {"B": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_SIZE: Final = re.compile(r"([0-9.]+)\s*([kKMGT]?)(i?)B")


def parse_stats(text: str) -> dict[str, Sample]:
    """Lines of `stats` with our format; what cannot be read (a container that is just starting) is absent."""
    samples = {}
    for line in text.splitlines():
        fields = line.split("\t")
        if len(fields) == 3 and (memory := _bytes(fields[2])) is not None:  # noqa: PLR2004 - the fields of the format
            percent = fields[1].strip().removesuffix("%")
            cores = float(percent) / 100 if re.fullmatch(r"[0-9.]+", percent) else 0.0
            samples[fields[0].strip()] = Sample(cpu_cores=cores, memory_bytes=memory)
    return samples


def _bytes(usage: str) -> float | None:
    """The first half of `12.3MiB / 1GiB` (Docker) or `12.3MB / 1GB` (Podman, powers of 1000)."""
    match = _SIZE.match(usage.strip())
    if match is None:
        return None
    unit = match[2].upper()
    binary = float(_FACTORS[unit or "B"])
    return float(match[1]) * (binary if match[3] or not unit else 1000.0 ** ("KMGT".index(unit) + 1))
