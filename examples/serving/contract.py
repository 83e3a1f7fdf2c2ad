"""The container contract over HTTP: when a container is ready and how one invocation is answered.

``GET /ping`` is 200 once the model is loaded and 503 before; ``POST /invocations`` runs the model.
The port is ``SAGEMAKER_BIND_TO_PORT`` (8080 without it), the answer's type without an Accept
header is ``SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT``.  SIGTERM ends the process in about a second.

The model runs in one thread of its own, so a long batch never blocks a ping.  Nothing in here
knows what the model is: see ``classifier`` and ``transformer`` for the two kinds.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from aiohttp import web

from serving import payloads
from serving.payloads import Refusal, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from serving.payloads import Images, Probabilities

    Invoke = Callable[[bytes, str, str], Reply]
    """Body, content type and wanted type of the answer, to the answer."""

MAX_BODY_BYTES = 6 * 1024 * 1024
BATCH = 256
SHUTDOWN_SECONDS = 1.0
KEEPALIVE_SECONDS = 620.0
"""Longer than any client keeps an idle connection: the side that reuses must be first to close."""

logger = logging.getLogger("example")


@dataclass(frozen=True)
class Settings:
    """What the platform tells a container."""

    port: int
    default_accept: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the two variables; an unusable value is a ValueError."""
        accept = environment.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", payloads.JSON)
        if accept not in payloads.WRITABLE:
            message = (
                f"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT is {accept!r}; "
                f"use one of {', '.join(payloads.WRITABLE)}"
            )
            raise ValueError(message)
        return cls(int(environment.get("SAGEMAKER_BIND_TO_PORT", "8080")), accept)


def classifier(predict: Callable[[Images], Probabilities]) -> Invoke:
    """Make an invocation of a function from images to ten probabilities each."""

    def invoke(body: bytes, content_type: str, accept: str) -> Reply:
        probabilities = _in_batches(predict, payloads.read_images(body, content_type))
        return payloads.write_predictions(probabilities, accept)

    return invoke


def transformer(transform: Callable[[Images], Images]) -> Invoke:
    """Make an invocation of a function from images to images."""

    def invoke(body: bytes, content_type: str, accept: str) -> Reply:
        images = _in_batches(transform, payloads.read_images(body, content_type))
        return payloads.write_images(images, accept)

    return invoke


def blank_image() -> Images:
    """Return one image without ink: running the model once makes its first invocation fast."""
    return np.zeros((1, payloads.PIXELS), np.float32)


def serve(name: str, load: Callable[[], Invoke]) -> None:
    """Listen at once, load the model beside it, and run until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    server = _Server(name, load, Settings.from_environment(os.environ))
    server.run()


class _Server:
    """One model behind the two routes."""

    def __init__(self, name: str, load: Callable[[], Invoke], settings: Settings) -> None:
        self._name = name
        self._load = load
        self._settings = settings
        self._invoke: Invoke | None = None
        self._load_failed = False
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")

    def run(self) -> None:
        application = web.Application(client_max_size=MAX_BODY_BYTES)
        application.add_routes(
            [web.get("/ping", self._ping), web.post("/invocations", self._invocations)]
        )
        application.on_startup.append(self._start_loading)
        web.run_app(
            application,
            host="0.0.0.0",  # noqa: S104 - the contract: reachable from outside the container
            port=self._settings.port,
            access_log=None,
            print=None,
            shutdown_timeout=SHUTDOWN_SECONDS,
            keepalive_timeout=KEEPALIVE_SECONDS,
        )
        if self._load_failed:
            sys.exit(1)

    async def _start_loading(self, _application: web.Application) -> None:
        # A daemon thread: SIGTERM must not wait for a model that is still loading.
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._load_model, args=(loop,), name="load", daemon=True).start()

    def _load_model(self, loop: asyncio.AbstractEventLoop) -> None:
        started = time.monotonic()
        try:
            self._invoke = self._load()
        except Exception:
            logger.exception("model %s could not be loaded", self._name)
            self._load_failed = True
            loop.call_soon_threadsafe(_stop)
            return
        logger.info(
            "model %s ready on port %d after %.1f s, %d MiB at most",
            self._name,
            self._settings.port,
            time.monotonic() - started,
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        )

    async def _ping(self, _request: web.Request) -> web.Response:
        return web.Response(status=503 if self._invoke is None else 200)

    async def _invocations(self, request: web.Request) -> web.Response:
        try:
            reply = await self._answer(request)
        except Refusal as refusal:
            reply = refusal.reply()
            return web.Response(
                status=refusal.status, body=reply.body, content_type=reply.content_type
            )
        return web.Response(body=reply.body, content_type=reply.content_type)

    async def _answer(self, request: web.Request) -> Reply:
        if self._invoke is None:
            fix = "wait until GET /ping answers 200"
            raise Refusal(503, "the model is still loading", field="/ping", fix=fix)
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge as error:
            fix = f"send at most {MAX_BODY_BYTES} bytes"
            raise Refusal(413, "the body is too large", field="body", fix=fix) from error
        accept = payloads.choose_type(
            request.headers.get("Accept", ""), self._settings.default_accept
        )
        content_type = request.headers.get("Content-Type", "")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._worker, self._invoke, body, content_type, accept)


def _in_batches(function: Callable[[Images], Images], images: Images) -> Images:
    """Apply ``function`` to slices of bounded size: a large request needs no more memory."""
    starts = range(0, len(images), BATCH)
    return np.concatenate([function(images[start : start + BATCH]) for start in starts])


def _stop() -> None:
    raise web.GracefulExit
