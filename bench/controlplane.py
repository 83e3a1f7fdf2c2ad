"""A Kubernetes control plane of its own for a run: etcd, API server, controller-manager on loopback, no node.

Made from the binary that `make cluster` has built, in a folder that goes with it; nothing of the machine is changed.
The operator gets the rights that the chart gives it, and every write that it makes is in an audit log.
"""

import json
import os
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from bench import settings
from bench.processes import BenchError, Running, free_ports

_PROGRAMS: Final = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl", "helm")
_OPERATOR_NAMESPACE: Final = "mce-system"
_OPERATOR: Final = f"system:serviceaccount:{_OPERATOR_NAMESPACE}:mce-operator"
_GROUPS: Final = f"system:serviceaccounts,system:serviceaccounts:{_OPERATOR_NAMESPACE},system:authenticated"
_START_SECONDS: Final = 60
_ANSWER_SECONDS: Final = 600


class ControlPlane:
    """A context manager; its processes are `running`, by name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._audit = folder / "audit.log"
        self._audited = 0
        self.running: dict[str, Running] = {}
        self.url = ""

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start(self) -> None:
        binary = _binary()
        for name in _PROGRAMS:
            (self._folder / name).symlink_to(binary)
        client, peer, secure, manager = free_ports(4)
        self.url = f"https://127.0.0.1:{secure}"
        self._write_files()
        self._run("etcd", *_etcd(client, peer), "--data-dir", str(self._folder / "data"))
        self._run("kube-apiserver", *self._api_server(client, secure))
        self._wait()
        self._run("kube-controller-manager", *self._manager(manager))
        self._install()

    def _write_files(self) -> None:
        tokens = f'admin,admin,admin,"system:masters"\noperator,{_OPERATOR},operator,"{_GROUPS}"\n'
        self._path("tokens.csv").write_text(tokens)
        rules: list[dict[str, object]] = [
            {"level": "Metadata", "users": [_OPERATOR], "verbs": ["create", "update", "patch", "delete"]},
            {"level": "None"},
        ]
        policy = {
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "omitManagedFields": True,
            "rules": rules,
        }
        self._path("audit.json").write_text(json.dumps(policy))
        self._openssl("genrsa", "-out", str(self._path("sa.key")), "2048")
        self._openssl("rsa", "-in", str(self._path("sa.key")), "-pubout", "-out", str(self._path("sa.pub")))
        for user in ("admin", "operator"):
            cluster = {"server": self.url, "certificate-authority": str(self._path("certs/apiserver.crt"))}
            config = {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "bench", "cluster": cluster}],
                "users": [{"name": user, "user": {"token": user}}],
                "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": user}}],
                "current-context": "bench",
            }
            self.kubeconfig(user).write_text(json.dumps(config))

    def _openssl(self, *arguments: str) -> None:
        done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"openssl {' '.join(arguments)}:\n{done.stderr}")

    def _api_server(self, etcd: int, secure: int) -> list[str]:
        return [
            f"--etcd-servers=http://127.0.0.1:{etcd}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--secure-port={secure}",
            f"--cert-dir={self._path('certs')}",
            f"--token-auth-file={self._path('tokens.csv')}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.192.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={self._path('sa.key')}",
            f"--service-account-key-file={self._path('sa.pub')}",
            f"--audit-policy-file={self._path('audit.json')}",
            f"--audit-log-path={self._audit}",
            "--profiling=false",
        ]

    def _manager(self, port: int) -> list[str]:
        config = self.kubeconfig("admin")
        return [
            *(f"--{option}kubeconfig={config}" for option in ("", "authentication-", "authorization-")),
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={self._path('certs')}",
            "--leader-elect=false",
            f"--service-account-private-key-file={self._path('sa.key')}",
            "--profiling=false",
        ]

    def _run(self, name: str, *arguments: str) -> None:
        folder = self._folder / f"{name}.d"
        folder.mkdir()
        running = Running(name, [str(self._path(name)), *arguments], core=None, folder=folder)
        self.running[name] = self._stack.enter_context(running)

    def _wait(self) -> None:
        give_up = time.monotonic() + _START_SECONDS
        while True:
            self.running["kube-apiserver"].check()
            try:
                self.get("/readyz")
            except (OSError, ValueError):
                if time.monotonic() > give_up:
                    raise BenchError(f"the API server is not ready after {_START_SECONDS} s") from None
                time.sleep(0.1)
            else:
                return

    def _install(self) -> None:
        """The CRD and the operator's rights, as the chart has them; the operator itself is a process."""
        chart = settings.BENCH.parent / "charts" / "mce"
        self.kubectl("create", "namespace", _OPERATOR_NAMESPACE)
        self.kubectl("apply", "--server-side", "-f", str(settings.BENCH.parent / "crds"))
        command = [str(self._path("helm")), "template", "mce", str(chart), "-n", _OPERATOR_NAMESPACE]
        made = subprocess.run([*command, "-s", "templates/rbac.yaml"], capture_output=True, text=True, check=False)
        if made.returncode:
            raise BenchError(f"the chart's rights can not be rendered:\n{made.stderr}")
        self.kubectl("apply", "-f", "-", given=made.stdout)
        self.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")

    def kubectl(self, *arguments: str, given: str = "") -> str:
        """What `kubectl` says, as administrator.

        Raises:
            BenchError: if it fails.
        """
        command = [str(self._path("kubectl")), f"--kubeconfig={self.kubeconfig('admin')}", *arguments]
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"kubectl {' '.join(arguments)}:\n{done.stderr}")
        return done.stdout

    def kubeconfig(self, user: str) -> Path:
        """The kubeconfig of `admin` or of `operator`."""
        return self._path(f"{user}.kubeconfig")

    def get(self, path: str) -> bytes:
        """The body of a GET as administrator.

        Raises:
            OSError: if there is no answer, or an error.
        """
        with self._open(path) as reply:
            body: bytes = reply.read()
            return body

    def post(self, path: str, body: dict[str, Any]) -> None:
        """Creates an object as administrator.

        Raises:
            OSError: if there is no answer, or an error.
        """
        with self._open(path, json.dumps(body).encode()) as reply:
            reply.read()

    def watch(self, path: str) -> Iterator[dict[str, Any]]:
        """Every object there is, then every change, as watch events; ends only with an error."""
        with self._open(f"{path}?watch=1") as reply:
            for line in reply:
                yield json.loads(line)

    def _open(self, path: str, body: bytes | None = None) -> Any:
        headers = {"Authorization": "Bearer admin", "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, body, headers)  # noqa: S310 - our own server
        context = ssl.create_default_context(cafile=str(self._path("certs/apiserver.crt")))
        return urllib.request.urlopen(request, timeout=_ANSWER_SECONDS, context=context)  # noqa: S310

    def items(self, path: str) -> list[dict[str, Any]]:
        """A whole list."""
        found: list[dict[str, Any]] = json.loads(self.get(path))["items"]
        return found

    def new_writes(self) -> Counter[str]:
        """The operator's writes since the last call, as the API server has them: `patch deployments 201`."""
        with self._audit.open() as log:
            log.seek(self._audited)
            text = log.read()
        whole = text[: text.rfind("\n") + 1]
        self._audited += len(whole.encode())
        found: Counter[str] = Counter()
        for line in whole.splitlines():
            event = json.loads(line)
            what, status = event["objectRef"], event["responseStatus"]["code"]
            resource = "/".join(filter(None, (what["resource"], what.get("subresource"))))
            found[f"{event['verb']} {resource} {status}"] += 1
        return found

    def _path(self, name: str) -> Path:
        return self._folder / name


def _etcd(client: int, peer: int) -> list[str]:
    here, there = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
    return [
        *(f"--{option}={here}" for option in ("listen-client-urls", "advertise-client-urls")),
        *(f"--{option}={there}" for option in ("listen-peer-urls", "initial-advertise-peer-urls")),
        f"--initial-cluster=default={there}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def _binary() -> Path:
    """The newest of what `make cluster` has built.

    Raises:
        BenchError: if there is none.
    """
    built = [path for path in settings.cache().parent.glob("hyperkube-*") if os.access(path, os.X_OK)]
    if not built:
        raise BenchError("there are no programs of a control plane; `make cluster` builds them once")
    return max(built, key=lambda path: path.stat().st_mtime)
