"""The page about error codes, `docs/errors.md`, made from the table of codes and from texts that are really read."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from bcgraph.errors import CODES, SpecError, render

# The first code of each group, and what the group is about.
GROUPS: Mapping[str, str] = {
    "E001": "The text itself",
    "E020": "Names and structure",
    "E040": "Values",
    "E050": "The network that a text describes",
    "E060": "Connections and spaces of them",
    "E070": "The temporal graph, and what is compiled from it",
    "E080": "Data, weights and runs",
    "E110": "Imported modules",
}

_NETWORK = "bcg 1\n\nnetwork net {\n  input    = image(3, 32, 32)\n  steps    = 4\n  backbone = tiny()\n}\n"


def _in_network(line: str) -> str:
    return _NETWORK.replace("  backbone = tiny()\n", f"  backbone = tiny()\n  {line}\n")


def _in_block(*lines: str) -> str:
    body = "".join(f"  {line}\n" for line in lines)
    return f"bcg 1\n\nblock body() {{\n{body}}}\n\n" + _NETWORK[7:].replace("tiny()", "body()")


_END = "spikes = lif(); flatten(); fc = linear(10)"

# Code -> a text that shows it. Codes without one come up where files are read, or after the language.
EXAMPLES: Mapping[str, str] = {
    "E004": _in_block(f"conv = conv({'(' * 65}8{')' * 65})", _END),
    "E005": _NETWORK + '\ndata = digits(root="data)\n',
    "E010": _NETWORK.replace("steps    = 4", "steps    : 4"),
    "E011": _NETWORK.removesuffix("}\n"),
    "E020": _NETWORK.replace("bcg 1", "bcg 2"),
    "E021": "bcg 1\n\ntrain {\n  epochs = 10\n}\n",
    "E022": _NETWORK.replace("bcg 1\n", 'bcg 1\n\nimport "residul.bcg"\n'),
    "E024": _NETWORK.replace("bcg 1\n", 'bcg 1\n\nuse "example"\n'),
    "E030": _in_block("conv = conv(chanels)", _END),
    "E031": _NETWORK.replace("tiny()", "resnt18()"),
    "E032": _in_network("readuot = last"),
    "E033": _in_network("steps = 6"),
    "E034": _NETWORK.replace("  steps    = 4\n", ""),
    "E035": _in_network("flatten()"),
    "E036": _in_block("forward = conv(8)", _END),
    "E040": _NETWORK.replace("= 4", "= 4.5"),
    "E041": _in_network("neuron = lif(tau=2)"),
    "E042": _NETWORK.replace("tiny()", "tiny(widht=8)"),
    "E043": _in_network("readout = first"),
    "E044": _in_block("conv = conv(8 // 0)", _END),
    "E050": _in_block("spikes = lif()", "fc = linear(10)"),
    "E051": _in_block("sum {", "  branch { a = conv(8) }", "  branch { b = conv(16) }", "}", _END),
    "E052": _in_block("conv = conv(8)", "spikes = lif()"),
    "E053": _in_block("flatten()", "fc = linear(10)"),
    "E054": _in_block("repeat i in range(100000) { [i] = lif() }", _END),
    "E055": _in_block("again = body()"),
    "E060": _in_network("backward @9 -> @0"),
    "E061": _in_network("backward lif1 -> layer2.0.lif2"),
    "E062": _in_network("backward @2 -> @0; backward @2 -> @0"),
    "E063": _in_network("backward @2 -> @0 { delay = 0 }"),
    "E064": _in_network("backward @2 -> @0 { through = half() }").replace(
        "bcg 1\n", "bcg 1\n\nblock half(channels) {\n  resize(nearest)\n  conv = conv(channels // 2, 1)\n}\n"
    ),
    "E065": _in_network("backward @2 -> @0 { read = w }"),
    "E066": _NETWORK + "\nsearch {\n  space { backward any -> any; fixed @2 -> @2; forbid any -> @2 }\n}\n",
    "E067": _NETWORK + "\nsearch {\n  subject_to { energy <= 0.5 * baseline }\n}\n",
    "E080": _NETWORK + "\ndata = cifar()\n",
    "E089": _NETWORK + "\nsearch {\n  evolve { strategy = gains; keep = 20 }\n}\n",
}


# What to do about a code that no text alone can show.
ADVICE: Mapping[str, str] = {
    "E001": "Check the path and the permissions. A folder, a pipe or a device is no file.",
    "E002": "A file has at most 1 MiB and 100,000 tokens. Use `repeat`, blocks with parameters, or imports.",
    "E003": "Save the file as UTF-8 text.",
    "E023": "Move what the files share into a third file that both import.",
    "E025": "Add the line `use ...` that the message shows, after `bcg 1`.",
    "E056": "Correct the shape rule or the module that the message compares.",
    "E070": "Give one connection of the cycle a delay of 1 or more.",
    "E071": "The graph of a pass of your own is wrong; the message names the port.",
    "E072": "The message lists what can be combined. `bcgraph COMMAND --help` lists all values of an option.",
    "E073": "Use another format ([deployment.md](deployment.md#what-each-carries)), or replace the layer or connection "
    "that the message names. `for = nir` in `search` keeps to what NIR carries; `--allow-loss` writes the rest.",
    "E074": "Choose a device that this machine has (`--accelerator cpu`), fewer `--devices`, or `--graphs auto`.",
    "E075": "Nothing was written. The file and torch disagree, as by a fault of a runtime or of a registered emitter.",
    "E081": "`bcgraph data NAME` shows where a data set is looked for and how to get it.",
    "E082": "Choose another file. In a run, remove the damaged file and type the same command again.",
    "E083": "The message lists what differs. Train the network of the file, or fine-tune with `--from-ann`.",
    "E084": "Free space, or choose another place. A run resumes with the same command.",
    "E085": "Name another directory, or give the settings, seed and data that the run began with. "
    "`bcgraph train --fresh` starts anew.",
    "E086": "Wait until the other process ends, or name another directory.",
    "E087": "Export the network again.",
    "E088": "Lower the learning rate, or bound the gradient with `clip`. The epochs before are kept.",
    "E090": "The message has the expected shape and type.",
    "E091": "Check the URL and the database. The same command resumes the search.",
    "E092": "Install the package that the hint names.",
    "E093": "The same command resumes the search. The message has the last error of a worker.",
    "E094": "Use a smaller batch, `accumulate`, or a smaller network.",
    "E095": "Your function raised an error; the message has its line.",
    "E096": "Choose another `--port`, or 0 for a free one.",
    "E097": "`ulimit -a` shows the limits of the system. Raise the one that the message names, or use fewer workers.",
    "E110": "Run the module on the example yourself; give it the shape `--example` that it takes.",
    "E111": "Replace the branch on values by an operation on tensors.",
    "E112": "Write `y = x + 1` in place of `x += 1` on a view.",
    "E113": "Replace the layer or function that the message names ([importing.md](importing.md#what-is-refused)).",
    "E114": "Let branches begin at one place and meet at one place.",
    "E115": "Nothing was written. Report it, with the module.",
}


def markdown() -> str:
    """The whole page."""
    lines = [
        "# Error codes",
        "",
        "<!-- Made by `python -m bcgraph.errordocs docs/errors.md`; a test holds it to the table of codes. -->",
        "",
        "`bcgraph explain E060` explains a code. This page lists all of them, with an example or with what to do.",
        "",
        "A message shows the place of a mistake, its line with the exact part marked, and a hint: the nearest known",
        "name, or what is allowed. One run reports all mistakes of a file; `--json` prints them as data. A command",
        "that reports a mistake ends with exit code 1.",
        "",
    ]
    for code, meaning in CODES.items():
        if code in GROUPS:
            lines += [f"## {GROUPS[code]}", "", "| code | what is wrong | what to do |", "|---|---|---|"]
        lines.append(f"| {code} | {meaning} | {ADVICE.get(code, 'see the example')} |")
        if _last_of_group(code):
            lines += ["", *_examples(code)]
    return "\n".join(lines).rstrip("\n") + "\n"


def _last_of_group(code: str) -> bool:
    codes = list(CODES)
    following = codes.index(code) + 1
    return following == len(codes) or codes[following] in GROUPS


def _examples(last: str) -> list[str]:
    """The examples of the group that ends with this code."""
    codes = list(CODES)
    end = codes.index(last) + 1
    start = max(index for index in range(end) if codes[index] in GROUPS)
    lines: list[str] = []
    for code in codes[start:end]:
        if code in EXAMPLES:
            lines += ["```text", *message(code).split("\n"), "```", ""]
    return lines


def message(code: str) -> str:
    """What is said about the example of a code. Raises LookupError when its text is in order, or wrong otherwise."""
    from bcgraph import dsl

    try:
        dsl.parse(EXAMPLES[code], file="net.bcg")
    except SpecError as error:
        (found,) = error.diagnostics
        if found.code == code:
            return render(found)
    raise LookupError(code)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(markdown(), encoding="utf-8")
