"""Letting a library download a data set, where the setting `download` asks for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from bcgraph import files
from bcgraph.errors import DataError
from bcgraph.process import printed_as_messages


def download(name: str, root: Path, fetch: Callable[[], object]) -> None:
    """Call `fetch`, which writes to `root`; of several processes one at a time, so that the others find the files.

    Raises DataError (E081) when it fails, RunError (E084) when `root` cannot be written to.
    """
    files.directory(root)
    try:
        # What libraries print on the way is no result of a command.
        with FileLock(root / f".{name}.lock"), printed_as_messages():
            fetch()
    # A mirror that fails is a URLError, an OSError; a file with another checksum and a list of mirrors that is at its
    # end are RuntimeErrors.
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            "E081",
            f"the data set `{name}` cannot be downloaded: {reason}",
            notes=(f"to `{root.absolute()}`",),
            hint="try again later, or download it by hand and set `root` to where it is",
        ) from error
