"""A model card beside an ONNX file: Markdown behind the front matter that the Hugging Face hub reads.

All text that is not ours (names of classes, license, author) is escaped: it can end neither the front matter nor a
table, and holds no markup. The card is sealed, so that a later export replaces it only as long as nobody has edited it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bcgraph import dsl, files, foreign, seals
from bcgraph.compiler.export.provenance import Accuracy, Provenance, escaped
from bcgraph.compiler.lower import lower
from bcgraph.errors import CompileError, RunError
from bcgraph.normalization import Normalization
from bcgraph.profile import profile
from bcgraph.readout import MEANINGS
from bcgraph.schema import NetworkSpec
from bcgraph.shapes import text as shape_text

if TYPE_CHECKING:
    from bcgraph.compiler.export.proof import Port

_NAMES = (
    "afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc "
    "cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 "
    "cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 "
    "cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 "
    "eupl-1.2 gfdl gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1 lgpl-3.0 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by "
    "ofl-1.1 openrail osl-3.0 pddl postgresql unknown unlicense wtfpl zlib "
)
LICENSES = frozenset(_NAMES.split())
"""The licenses that the hub knows by name; of others the card gives the name beside `other`."""


MAX_CARD = 16 * 1024 * 1024
"""Bytes of a card that is replaced; what is larger is none."""

LISTED = 50
"""Classes that a card names."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a card tells of a file. `size` is in bytes, `origin` says what `ports` and the proof were measured on.

    `proof` is the sentence of the proof. `int8` is the accuracy of a file in 8 bits itself, and on how many samples.
    """

    spec: NetworkSpec
    path: Path
    form: str
    size: int
    provenance: Provenance
    proof: str = ""
    origin: str = ""
    ports: tuple[Port, ...] = ()
    classes: tuple[str, ...] = ()
    normalization: Normalization | None = None
    int8: tuple[float, int] | None = None


def place(file: Path) -> Path:
    """Where the card of a file lies: `net.md` beside `net.onnx`.

    Raises CompileError (E072) for a file that is not ONNX, and RunError (E084) where that name is taken by anything but
    a card that is as it was written.
    """
    if file.suffix != ".onnx":
        raise CompileError("E072", f"`{file.suffix}` files have no model card", hint="leave out --card, or write .onnx")
    found = file.with_suffix(".md")
    try:
        ours = seals.intact(foreign.read(found, MAX_CARD)) is True
    except FileNotFoundError:
        return found
    except (OSError, foreign.UnreadableError):
        ours = False
    if not ours:
        raise RunError(
            "E084",
            f"the model card would replace `{found}`, which bcgraph has not written, or which was edited since",
            hint="move it away, or leave out --card",
        )
    return found


def write(path: Path, facts: Facts) -> None:
    """Write the card, in one step. Raises RunError (E084)."""
    files.write_bytes(path, seals.seal(text(facts).encode()))


def text(facts: Facts) -> str:
    """The card, with a seal that is still blank."""
    spec, known = facts.spec, facts.provenance
    count = len(spec.connections)
    kind = "connection between them" if spec.forward else "backward connection"
    feedback = f"{count or 'no'} {kind if count == 1 else kind.replace('connection', 'connections')}"
    bits = "int8" if facts.int8 is not None else "float32"
    sections = [
        "\n".join(["---", f"# {seals.BLANK}", *_front(facts), "---"]),
        f"# {markdown(spec.name)}",
        f"A spiking neural network with {len(spec.ports)} layers of neurons and {feedback}. `{_code(facts.path.name)}` "
        f"is an ONNX file, {facts.form}, in {bits}, {facts.size:,} bytes, by bcgraph {markdown(known.version)}.",
        *([] if known.weights not in _WARNINGS else [f"**{_WARNINGS[known.weights]}**"]),
        _list(_about(facts)),
        "## Accuracy",
        *_accuracy(facts),
        *([markdown(facts.proof)] if facts.proof else []),
        "## Costs",
        _costs(spec),
        "## How to run it",
        _fence("python", _program(facts)),
        "## Ports",
        *([f"Firing rates are those of {markdown(facts.origin)}."] if facts.ports else []),
        _ports(facts),
        "## Specification",
        _fence("", "\n".join(map(escaped, dsl.format_spec(spec).splitlines()))),
    ]
    return "\n\n".join(sections) + "\n"


_WARNINGS = {
    "drawn": "Its weights are drawn at random: it was never trained.",
    "inherited": "Its weights are those of a supernet: it was never trained on its own.",
}


def markdown(words: str) -> str:
    """Words within a line of Markdown that shows just them."""
    return re.sub(r"([!#$&*<>\[\\\]_`{|}~])", r"\\\1", escaped(words))


def _front(facts: Facts) -> list[str]:
    """The lines of YAML. Strings are those of JSON, which YAML reads alike."""
    spec, known, lines = facts.spec, facts.provenance, []
    if known.license:
        name = known.license.strip().lower()
        lines += (
            [f"license: {name}"] if name in LICENSES else ["license: other", f"license_name: {_text(known.license)}"]
        )
    lines += ["library_name: onnx"]
    lines += ["pipeline_tag: image-classification"] if spec.input.kind == "image" else []
    lines += ["tags:", *(f"- {tag}" for tag in ("onnx", "spiking-neural-network", "backward-connections", "bcgraph"))]
    measured = _measured(facts)
    if measured is not None:
        task = "image-classification" if spec.input.kind == "image" else "other"
        lines += [
            "metrics:",
            "- accuracy",
            "model-index:",
            f"- name: {_text(spec.name)}",
            "  results:",
            "  - task:",
            f"      type: {task}",
            "    dataset:",
            f"      name: {_text(measured.data)}",
            f"      type: {_text(measured.data)}",
            f"      split: {_text(measured.split)}",
            "    metrics:",
            "    - type: accuracy",
            f"      value: {measured.value!r}",
        ]
    return lines


def _measured(facts: Facts) -> Accuracy | None:
    """The accuracy of this very file: where it is in 8 bits, not that of the weights that it was made of."""
    if facts.int8 is not None:
        return Accuracy(facts.int8[0], facts.spec.data.name, "test")
    return facts.provenance.accuracy


def _about(facts: Facts) -> Iterable[tuple[str, str]]:
    spec, known = facts.spec, facts.provenance
    yield "input", f"{spec.input.kind} {shape_text(spec.input.shape)}"
    yield "steps", f"{spec.steps}, the prediction is the arg max of {MEANINGS[spec.readout]}"
    yield "backbone", str(spec.backbone.call)
    more = len(facts.classes) - LISTED
    yield "classes", ", ".join((*facts.classes[:LISTED], *([f"and {more:,} more"] if more > 0 else [])))
    yield "data set", spec.data.name
    yield "seed", "" if known.seed is None else str(known.seed)
    yield "author", known.author
    yield "license", known.license


def _accuracy(facts: Facts) -> Iterable[str]:
    if facts.int8 is not None:
        value, samples = facts.int8
        yield f"In int8: {value:.4f} on {samples:,} samples of the test part of {markdown(facts.spec.data.name)}."
    known = facts.provenance
    if known.accuracy is not None:
        what = "Of the weights" if facts.int8 is None else "Of the float32 weights"
        yield f"{what}: {markdown(str(known.accuracy))}."
    if facts.int8 is None and known.accuracy is None:
        yield "Not known."


def _costs(spec: NetworkSpec) -> str:
    found = profile(spec)
    return _list(
        (
            ("parameters", f"{found.parameters:,}"),
            ("multiply-accumulates a step, were no spike absent", f"{found.operations:,}"),
            ("values of state between steps", f"{found.state_values:,}"),
        )
    )


def _program(facts: Facts) -> str:
    """Code that makes `predicted` `[N]` of samples `x`."""
    spec, normal = facts.spec, facts.normalization
    sequence = spec.input.kind == "sequence"
    shape = ", ".join(map(str, spec.input.shape))
    outside = normal is not None and not normal.inside and {*normal.mean, *normal.std} != {0.0, 1.0}
    raw = ", not normalized yet" if outside else ""
    lines = [
        "import numpy as np",
        "import onnxruntime",
        "",
        f"# x: float32 [{f'{spec.steps}, ' if sequence else ''}N, {shape}]{raw}",
    ]
    if normal is not None and outside:
        mean, std = (
            f"np.array({list(values)}, np.float32).reshape({', '.join(['-1', *['1'] * (normal.axes - 1)])})"
            for values in (normal.mean, normal.std)
        )
        lines.append(f"x = (x - {mean}) / {std}")
    lines.append(f"session = onnxruntime.InferenceSession({facts.path.name!a})")
    if facts.form == "step":
        lines += [
            "frame, *states = session.get_inputs()",
            f"fed = {{s.name: np.zeros((x.shape[{int(sequence)}], *s.shape[1:]), np.float32) for s in states}}",
            "outputs = []",
            f"for t in range({spec.steps}):",
            f"    output, *after = session.run(None, {{frame.name: x{'[t]' if sequence else ''}, **fed}})",
            "    fed = dict(zip(fed, after))",
            "    outputs.append(output)",
            "outputs = np.stack(outputs)",
        ]
    else:
        lines.append("(outputs,) = session.run(None, {session.get_inputs()[0].name: x})  # [steps, N, classes]")
    lines.append(f"predicted = outputs{'.mean(0)' if spec.readout == 'mean' else '[-1]'}.argmax(-1)")
    return "\n".join(lines)


def _ports(facts: Facts) -> str:
    values = lower(facts.spec).values()
    rates = {port.name: f"{port.firing:.3f}" for port in facts.ports}
    feeds: dict[int, list[str]] = {}
    for each in facts.spec.in_order:
        delay = "" if each.delay == 1 else f", delay {each.delay}"
        feeds.setdefault(each.target, []).append(f"@{each.source}{delay}")
    rows = [
        (
            f"@{number}",
            name,
            shape_text(values[f"{name}.s"].shape),
            rates.get(name, ""),
            "; ".join(feeds.get(number, [])),
        )
        for number, name in enumerate(facts.spec.ports)
    ]
    return _table(("port", "name", "shape", "firing rate", "connections from"), rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *([markdown(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _list(entries: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"- {name}: {markdown(value)}" for name, value in entries if value)


def _fence(language: str, content: str) -> str:
    """A block of code, whose fence is longer than any in it."""
    longest = max((len(run) for run in re.findall("`+", content)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{content}\n{fence}"


def _code(words: str) -> str:
    return escaped(words).replace("`", "'")


def _text(words: str) -> str:
    return json.dumps(escaped(words), ensure_ascii=False)
