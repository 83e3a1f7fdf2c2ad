"""Where the bench finds and keeps things; the only module here that reads the environment."""

import os
import shutil
from pathlib import Path
from typing import Final

BENCH: Final = Path(__file__).resolve().parent
RESULTS: Final = BENCH / "results"
CONFIG: Final = BENCH / "config"
WRK_SCRIPT: Final = BENCH / "post.lua"


def cache() -> Path:
    """The folder for the programs that are built for a run."""
    return Path(os.environ.get("MCE_CACHE", "~/.cache/mce")).expanduser() / "bench"


def find(program: str) -> str | None:
    """The path of an installed program; Debian keeps servers where an ordinary user does not look."""
    return shutil.which(
        program, path=os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/usr/local/go/bin"
    )
