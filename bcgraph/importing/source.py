"""The module that a command names: `package.module:callable` or `file.py:callable`, called with settings."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from torch import nn

from bcgraph.errors import nearest
from bcgraph.importing.importer import ImportFailedError
from bcgraph.importing.record import Place, span_of
from bcgraph.machine import refuses


def load(source: str, settings: Sequence[str] = ()) -> nn.Module:
    """The module that `source` makes. The code that it names runs, as with `python`: name only what you trust.

    `settings` are arguments by name, `num_classes=10`. Raises ImportFailedError (E110).
    """
    path, colon, name = source.rpartition(":")
    if not colon or not path or not name:
        hint = "for example `torchvision.models:resnet18`, or `net.py:Net`"
        raise ImportFailedError("E110", f"`{source}` names no callable of a module", hint=hint)
    arguments = dict(_setting(each) for each in settings)
    try:
        with redirect_stdout(sys.stderr):
            made = _callable(path, name)(**arguments)
    except ImportFailedError:
        raise
    # The code of the user's own may raise anything, and may ask Python to exit.
    except (Exception, SystemExit) as error:
        if refuses(error):
            raise
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ImportFailedError.of([Place("", span_of(error)).problem("E110", f"`{source}` fails: {first}")]) from None
    if not isinstance(made, nn.Module):
        raise ImportFailedError("E110", f"`{source}` gives no torch module, but {type(made).__name__}")
    return made


def _setting(written: str) -> tuple[str, Any]:
    name, equals, value = written.partition("=")
    if not equals or not name.isidentifier():
        raise ImportFailedError("E110", f"`{written}` is no setting", hint="write `--set num_classes=10`")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def _callable(path: str, name: str) -> Any:
    if path.endswith(".py"):
        place = Path(path)
        if not place.is_file():
            raise ImportFailedError("E110", f"there is no file `{path}`")
        described = importlib.util.spec_from_file_location(place.stem, place)
        assert described is not None
        assert described.loader is not None
        module = importlib.util.module_from_spec(described)
        # What the file imports may stand beside it, as with `python file.py`.
        sys.path.insert(0, str(place.parent.resolve()))
        try:
            described.loader.exec_module(module)
        finally:
            sys.path.remove(str(place.parent.resolve()))
    else:
        try:
            module = importlib.import_module(path)
        except ModuleNotFoundError as error:
            missing = error.name or path
            raise ImportFailedError("E110", f"there is no module `{missing}`", hint="is it installed?") from None
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            hint = nearest(part, [each for each in dir(found) if not each.startswith("_")])
            raise ImportFailedError("E110", f"`{path}` has no `{part}`", hint=hint)
        found = getattr(found, part)
    return found
