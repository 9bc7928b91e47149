"""How `winnow` is called here, for the sentences that ask people to call it: as they stand, they can be copied into a terminal."""

import shutil
import sys
from functools import cache
from pathlib import Path


@cache
def winnow() -> str:
    """The command as a person types it: "winnow" where the shell finds it, else its path in the folder that Winnow was started from."""
    script = Path(sys.executable).with_name("winnow")
    if shutil.which("winnow") is None and script.is_file() and script.is_relative_to(Path.cwd()):
        return str(script.relative_to(Path.cwd()))
    return "winnow"
