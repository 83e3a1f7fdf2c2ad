"""What a pod template was built from, as one short text that an annotation can hold, and back. Pure.

The inputs are kept and not the template: whoever reads them checks them like any spec, so an edited record can ask for
nothing that a spec could not.
"""

import base64
import binascii
import json
import zlib
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import TypeAdapter

from mce_api import names, validation
from mce_api.endpoint import MultiContainerEndpoint
from mce_operator.resources.router import Setup

SHAPE: Final = ("mode", "containers", "availability", "limits", "pod")
"""The parts of a spec that shape the pod template; no other part may."""
LONGEST: Final = 64 * 1024
"""Characters. All annotations of an object together have 256 KiB, and there may be two records."""
_LARGEST: Final = 4 << 20
"""Bytes of a record when it is unpacked: more than any spec that the API server takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Router:
    """The parts of a `Setup` that shape the pod template."""

    image: str
    arguments: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()


_ROUTER: Final = TypeAdapter(_Router)


def dump(endpoint: MultiContainerEndpoint, setup: Setup) -> str:
    """The record of a template; empty if it would be longer than `LONGEST`."""
    spec = endpoint.spec.model_dump(mode="json", by_alias=True, exclude_none=True, include=set(SHAPE))
    router = _Router(image=setup.image, arguments=setup.arguments, env=setup.env)
    text = json.dumps({"spec": spec, "router": _ROUTER.dump_python(router, mode="json")}, separators=(",", ":"))
    packed = base64.b64encode(zlib.compress(text.encode(), 9)).decode()
    return packed if len(packed) <= LONGEST else ""


def restored(
    endpoint: MultiContainerEndpoint, setup: Setup, record: str
) -> tuple[MultiContainerEndpoint, Setup] | None:
    """`endpoint` and `setup` with all that shapes the template as `record` holds it; the rest of them stays.

    None if the record is no valid one.
    """
    if not 0 < len(record) <= LONGEST:
        return None
    try:
        content = json.loads(_unpacked(record))
        spec, router = content["spec"], _ROUTER.validate_python(content["router"])
        if not set(spec) <= set(SHAPE):
            return None
        document: dict[str, Any] = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": endpoint.metadata.name, "namespace": endpoint.metadata.namespace},
            "spec": spec,
        }
        kept = validation.endpoint(document).spec
    except (ValueError, KeyError, TypeError, RecursionError):  # InvalidEndpoint, ValidationError, bad JSON: ValueErrors
        return None
    shape = {name: getattr(kept, name) for name in SHAPE}
    return (
        endpoint.model_copy(update={"spec": endpoint.spec.model_copy(update=shape)}),
        replace(setup, image=router.image, arguments=router.arguments, env=router.env),
    )


def _unpacked(record: str) -> bytes:
    try:
        unpack = zlib.decompressobj()
        content = unpack.decompress(base64.b64decode(record, validate=True), _LARGEST)
    except (zlib.error, binascii.Error) as error:
        raise ValueError("not a record") from error
    if not unpack.eof:
        raise ValueError("longer than any record")
    return content
