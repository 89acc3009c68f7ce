"""The text of a kernel as a function: loaded once for equal texts.

Triton reads the source of a function, so the text has a place in `linecache`. Only texts of `source` are run. They hold
no word of a user's file: names are numbered, and numbers are floats.
"""

from __future__ import annotations

import hashlib
import importlib.util
import linecache
from functools import cache
from types import ModuleType
from typing import Any


@cache
def available() -> bool:
    """Whether Triton is installed."""
    return importlib.util.find_spec("triton") is not None


@cache
def loaded(source: str) -> Any:
    """The kernel of a text."""
    key = hashlib.sha256(source.encode()).hexdigest()[:16]
    name = f"<bcgraph kernel {key}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    module = ModuleType(f"bcgraph_kernel_{key}")
    module.__file__ = name
    exec(compile(source, name, "exec"), module.__dict__)
    return module.kernel
