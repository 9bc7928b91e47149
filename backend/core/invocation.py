"""The command `winnow`, as sentences show it for copying."""

import shutil
import sys
from functools import cache
from pathlib import Path


@cache
def winnow() -> str:
    """Return "winnow" if the shell finds it, else its path below the current folder."""
    script = Path(sys.executable).with_name("winnow")
    if shutil.which("winnow") is None and script.is_file() and script.is_relative_to(Path.cwd()):
        return str(script.relative_to(Path.cwd()))
    return "winnow"
