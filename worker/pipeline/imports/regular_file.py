"""Open regular files only: a pipe or a device could keep its reader for ever."""

import os
import stat
from typing import BinaryIO, cast

from worker.pipeline.imports.refused import Refused

SPECIAL_FILE = "this is a device or another special file"


def open_regular(path: str) -> BinaryIO:
    """Open a file to read its bytes. Raises Refused."""
    try:
        # A pipe without a writer would keep `open` waiting.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise Refused(f"the file could not be read ({error.strerror})") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Refused(SPECIAL_FILE)
    return cast(BinaryIO, os.fdopen(descriptor, "rb"))
