"""What is read from the environment: where state is kept, and what of it a container process may see."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_INHERITED: Final = frozenset(
    {
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "LANG",
        "LANGUAGE",
        "TZ",
        "TMPDIR",
        "LD_LIBRARY_PATH",
        "DYLD_LIBRARY_PATH",
        "VIRTUAL_ENV",
        "XDG_CACHE_HOME",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
    }
)
_INHERITED_PREFIXES: Final = ("LC_", "CUDA_", "NVIDIA_", "OMP_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Read once, passed down."""

    home: Path
    """Folder with one folder per endpoint."""
    inherited: Mapping[str, str]
    """What a process container gets besides its own variables: enough to run an interpreter, no credentials."""
    everything: Mapping[str, str]
    """For the Docker or Podman client, which is the user's own tool, and for the supervisor."""


def read() -> Settings:
    """Settings from this process' environment."""
    everything = dict(os.environ)
    state = everything.get("XDG_STATE_HOME", "")
    # The XDG specification: a relative path is invalid and ignored.
    base = Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state"
    inherited = {
        key: value for key, value in everything.items() if key in _INHERITED or key.startswith(_INHERITED_PREFIXES)
    }
    return Settings(home=base / "mce", inherited=inherited, everything=everything)
