"""Bytes to images and results to bytes: which media types are spoken and what a valid image is.

Pure: no I/O, no model.  All examples accept and answer the same forms, so that one client and one
pipeline serve them all.  Images are (n, 784) float32 from 0 to 255 on both sides of every step.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    Images = NDArray[np.float32]
    Probabilities = NDArray[np.float32]

PIXELS = 28 * 28
BRIGHTEST = 255
JSON = "application/json"
CSV = "text/csv"
RAW = "application/x-image"


@dataclass(frozen=True)
class Reply:
    """A successful answer."""

    body: bytes
    content_type: str


class Refusal(Exception):  # noqa: N818 - an answer, not a failure of this program
    """The caller's mistake: its HTTP status, the field it is in, and how to fix it."""

    def __init__(self, status: int, problem: str, *, field: str, fix: str) -> None:
        super().__init__(problem)
        self.status = status
        self.problem = problem
        self.field = field
        self.fix = fix

    def reply(self) -> Reply:
        """Return the JSON body the caller gets."""
        body = {"error": self.problem, "field": self.field, "fix": self.fix}
        return Reply(json.dumps(body).encode(), JSON)


def read_images(body: bytes, content_type: str) -> Images:
    """Decode a request body; parameters of the content type are ignored."""
    media_type = content_type.partition(";")[0].strip().lower()
    reader = READERS.get(media_type)
    if reader is None:
        problem = f"content type {media_type or '(none)'} is not supported"
        fix = f"send one of {', '.join(READERS)}"
        raise Refusal(415, problem, field="Content-Type", fix=fix)
    images = reader(body)
    if not (np.isfinite(images) & (images >= 0) & (images <= BRIGHTEST)).all():
        problem = "a pixel is not a number from 0 to 255"
        fix = "send grey values, 0 for background and 255 for ink"
        raise Refusal(400, problem, field="body", fix=fix)
    return images


def choose_type(accept: str, default: str) -> str:
    """Return the first type of an Accept header that is spoken; a wildcard means ``default``."""
    for offer in accept.split(",") if accept.strip() else ("*/*",):
        media_type = offer.partition(";")[0].strip().lower()
        if media_type in WRITABLE:
            return media_type
        if media_type in {"*/*", default.partition("/")[0] + "/*"}:
            return default
    problem = f"none of the accepted types ({accept}) can be written"
    fix = f"accept one of {', '.join(WRITABLE)}"
    raise Refusal(406, problem, field="Accept", fix=fix)


def write_predictions(probabilities: Probabilities, content_type: str) -> Reply:
    """Encode the most probable digit of each row and its probability."""
    labels = probabilities.argmax(axis=1).tolist()
    best = np.round(probabilities.max(axis=1).astype(float), 6).tolist()
    pairs = list(zip(labels, best, strict=True))
    if content_type == CSV:
        return Reply(_csv(pairs), CSV)
    rows = [{"label": label, "probability": probability} for label, probability in pairs]
    return Reply(json.dumps({"predictions": rows}).encode(), JSON)


def write_images(images: Images, content_type: str) -> Reply:
    """Encode images as the next container of a pipeline reads them."""
    rows = np.rint(images).astype(int).tolist()
    if content_type == CSV:
        return Reply(_csv(rows), CSV)
    return Reply(json.dumps({"instances": rows}, separators=(",", ":")).encode(), JSON)


def _csv(rows: list[Any]) -> bytes:
    return "".join(",".join(map(str, row)) + "\n" for row in rows).encode()


def _read_json(body: bytes) -> Images:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        fix = 'send {"instances": [[784 numbers], ...]}'
        raise Refusal(400, f"not JSON: {error}", field="body", fix=fix) from error
    names = (
        [name for name in ("instances", "inputs") if name in document]
        if isinstance(document, dict)
        else []
    )
    if len(names) != 1:
        fix = 'send an object with one of the two keys "instances" and "inputs"'
        raise Refusal(400, "no images, or two lists of them", field="instances", fix=fix)
    return _stack(document[names[0]], names[0])


def _stack(rows: object, field: str) -> Images:
    """Make one array of rows in any nesting (784, 28x28, 1x28x28, ...) of 784 numbers each."""
    if not isinstance(rows, list) or not rows:
        fix = "send a list with at least one image"
        raise Refusal(400, f"{field} is not a list of images", field=field, fix=fix)
    images = np.empty((len(rows), PIXELS), np.float32)
    for index, row in enumerate(rows):
        try:
            pixels = np.asarray(row).reshape(-1)
        except ValueError:  # lists of different lengths
            pixels = np.empty(0)
        if pixels.size != PIXELS or pixels.dtype.kind not in "iuf":
            problem = f"image {index} is not {PIXELS} numbers"
            fix = f"send {PIXELS} numbers from 0 to {BRIGHTEST} in row order"
            raise Refusal(400, problem, field=f"{field}[{index}]", fix=fix)
        images[index] = pixels
    return images


def _read_csv(body: bytes) -> Images:
    try:
        lines = body.decode("ascii").split()
        rows = [[float(cell) for cell in line.split(",")] for line in lines]
    except ValueError as error:
        fix = f"send one image per line, {PIXELS} numbers separated by commas, no header"
        raise Refusal(400, f"not CSV: {error}", field="body", fix=fix) from error
    return _stack(rows, "line")


def _read_raw(body: bytes) -> Images:
    if not body or len(body) % PIXELS:
        problem = f"{len(body)} bytes are not a whole number of images"
        fix = f"send {PIXELS} bytes per image"
        raise Refusal(400, problem, field="body", fix=fix)
    return np.frombuffer(body, np.uint8).reshape(-1, PIXELS).astype(np.float32)


READERS: Mapping[str, Callable[[bytes], Images]] = {
    JSON: _read_json,
    CSV: _read_csv,
    RAW: _read_raw,
}
WRITABLE = (JSON, CSV)
