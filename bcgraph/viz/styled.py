"""matplotlib's settings for one picture: they are those of the whole process, so one thread draws at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any

import matplotlib as mpl

_DRAWING = RLock()


@contextmanager
def styled(settings: Any) -> Iterator[None]:
    """Inside, matplotlib has these settings; restores its own on exit."""
    with _DRAWING, mpl.rc_context(settings):
        yield
