"""One invocation over plain HTTP, and its answer as the service means it."""

import contextlib
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from mce_api import wire
from mce_local.client import Client
from mce_local.errors import LocalError

_SUCCESS: Final = range(200, 300)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def is_success(self) -> bool:
        """Whether the body is a model's answer."""
        return self.status in _SUCCESS

    def header(self, name: str) -> str:
        """First value of a header, empty if absent."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")

    def explain(self) -> str:
        """The error for a person: code, status, reason, message, and what the container itself said."""
        code = self.header(wire.ERROR_TYPE).partition(":")[0] or http.client.responses.get(self.status, "error")
        reason = self.header(wire.REASON)
        facts = f"HTTP {self.status}" + (f", {reason}" if reason else "")
        try:
            body = json.loads(self.body)
        except ValueError:
            body = {}
        members = body if isinstance(body, Mapping) else {}
        message = members.get("Message") or members.get("message") or self.body.decode("utf-8", "replace").strip()
        lines = [f"{code} ({facts}): {message}"]
        if "OriginalStatusCode" in members:
            lines.append(
                f"the container said: {members['OriginalStatusCode']} {members.get('OriginalMessage', '')}".rstrip()
            )
        return "\n".join(lines)


def resolve(client: Client, endpoint: str, namespace: str | None) -> str:
    """The URL of a local endpoint, or `endpoint` itself if it is a URL; one without a path gets /invocations.

    Raises:
        LocalError: if no such endpoint runs here.
    """
    if "://" in endpoint:
        parts = urlsplit(endpoint)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise LocalError(f"{endpoint} is no http or https URL")
        return endpoint if parts.path.strip("/") else endpoint.rstrip("/") + wire.INVOCATIONS_PATH
    record = client.record(endpoint)
    if record is None or namespace not in {None, record.namespace}:
        known = ", ".join(client.endpoints()) or "none"
        raise LocalError(
            f"no local endpoint {endpoint}{f' in namespace {namespace}' if namespace else ''} (running: {known}); "
            f"start it with mce local up -f FILE, or give a URL"
        )
    return f"http://127.0.0.1:{record.port}/endpoints/{endpoint}{wire.INVOCATIONS_PATH}"


def post(url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    """Sends one POST; no redirects, no proxies, no retries.

    Raises:
        LocalError: if there is no HTTP answer.
    """
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    try:
        with contextlib.closing(kind(parts.hostname or "", parts.port)) as connection:
            connection.request("POST", path, body=body, headers=dict(headers))
            response = connection.getresponse()
            return Answer(status=response.status, headers=tuple(response.getheaders()), body=response.read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise LocalError(f"no answer from {url}: {error}") from error
