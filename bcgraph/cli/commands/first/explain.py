"""`bcgraph explain`: what an error code means, with a text that shows it."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from bcgraph.cli.inputs import JsonOption
from bcgraph.cli.output import emit, emit_json, table
from bcgraph.errordocs import ADVICE
from bcgraph.errors import CODES, RunError, SpecError, nearest, render

_LINK = re.compile(r"\[([\w.]+)\]\([^)]*\)")


def explain_command(
    code: Annotated[str | None, typer.Argument(metavar="CODE", help="An error code, such as E061.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Explain one error code; without one, list them all."""
    if code is None:
        if as_json:
            emit_json(CODES)
        else:
            emit(table(("code", "what is wrong"), list(CODES.items())))
        return
    asked = code.upper()
    if asked not in CODES:
        hint = nearest(asked, CODES) or "`bcgraph explain` lists all codes"
        raise RunError("E043", f"there is no error code `{code}`", hint=hint)
    text, said = _example(asked)
    advice = _LINK.sub(r"docs/\1", ADVICE[asked]) if asked in ADVICE else None
    if as_json:
        emit_json({"code": asked, "meaning": CODES[asked], "advice": advice, "example": text, "diagnostics": said})
        return
    parts = [f"{asked}: {CODES[asked]}"]
    if advice is not None:
        parts.append(advice)
    if text is not None:
        parts += ["An example:", "\n".join(f"    {line}".rstrip() for line in text.rstrip("\n").split("\n"))]
        parts += ["Its message:", "\n".join(f"    {line}" for each in said for line in each.split("\n"))]
    emit("\n\n".join(parts))


def _example(code: str) -> tuple[str | None, list[str]]:
    """A text that shows the code, and what is said about it; none for codes that no text alone can show."""
    from bcgraph import dsl
    from bcgraph.errordocs import EXAMPLES

    text = EXAMPLES.get(code)
    if text is None:
        return None, []
    try:
        dsl.parse(text, file="net.bcg")
    except SpecError as error:
        return text, [render(each) for each in error.diagnostics if each.code == code]
    return text, []
