"""`$(NAME)` in commands, arguments and values, as a kubelet fills it in. Pure.

Source: Kubernetes, `third_party/forked/golang/expansion/expand.go` and the field comments of `Container` in
`core/v1/types.go`: `$$` is a dollar sign, a name that is not known stays as it is written.
"""

import re
from collections.abc import Mapping
from typing import Final

from mce_local.runtime import Launch
from mce_local.wanted import Container

_REFERENCE: Final = re.compile(r"\$(?:(\$)|\(([^)]*)\))")


def filled(launch: Launch) -> Container:
    """The container of `launch`, every reference in it filled in."""
    container = launch.container
    known = dict(launch.bind_env)
    for name, value in container.env.items():
        known[name] = text(value, known)  # a value may use those before it
    return container.model_copy(
        update={
            "command": tuple(text(word, known) for word in container.command),
            "args": tuple(text(word, known) for word in container.args),
            "env": {name: known[name] for name in container.env},
        }
    )


def text(written: str, known: Mapping[str, str]) -> str:
    """`written` with every reference to a variable in `known` filled in, once."""
    return _REFERENCE.sub(lambda found: found[1] or known.get(found[2], found[0]), written)
