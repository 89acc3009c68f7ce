"""Processor seconds of the language server from a change of a 1,000-line file to its diagnostics.

    python -m benchmarks.editing

The file holds 24 blocks of layers with comments, one statement a line, all of them expanded. What an editor and the
pipe add, and the pause of 50 ms in which further keys are waited for, are not in the figures.
"""

from __future__ import annotations

import statistics
import time

from bcgraph.lsp.reading import Reading, Texts, read


def text() -> str:
    lines = ["bcg 1", "", "# A long file of one statement a line.", ""]
    for b in range(24):
        lines += [
            f"# Block number {b}.",
            f"block part{b}(channels, stride=1, residual=true) {{",
            "  sum {",
            "    branch {",
        ]
        for i in range(9):
            stride = "stride" if i == 0 else "1"
            lines += [f"      conv{i} = conv(channels, kernel=3, stride={stride})", f"      bn{i}   = bn()"]
            lines += [f"      lif{i}  = lif(tau=0.5)"]
        lines += ["    }", "    branch if residual {", "      downsample = conv(channels, kernel=1, stride=stride)"]
        lines += ["    }", "  }", "  last = neuron()", "}", ""]
    lines += ["block net(width=16, classes=10) {", *(f"  p{b} = part{b}(width)" for b in range(24))]
    lines += ["  adaptive_avgpool(1)", "  flatten()", "  fc = linear(classes)", "}", "", "", "network long {"]
    lines += ["  input    = image(3, 32, 32)", "  steps    = 4", "  backbone = net(width=16)", ""]
    lines += [*(f"  backward @{i + 3} -> @{i}" for i in range(10)), "}", "", "train { epochs = 12 }"]
    return "\n".join(lines) + "\n"


def main(rounds: int = 9) -> None:
    files, base = Texts(), text()
    read(base, "long.bcg", files)
    changes = {
        "a number": base.replace("epochs = 12", "epochs = 123"),
        "a name that is being typed": base.replace("  p3 = part3(width)", "  p3 = par"),
        "a broken line": base.replace("  p3 = part3(width)", "  p3 = part3("),
        "a comment": base.replace("# Block number 3.", "# Block number three."),
    }
    print(f"{len(base.splitlines())} lines")
    for name, changed in changes.items():
        seconds = []
        for _ in range(rounds):
            start = time.process_time()
            found: Reading = read(changed, "long.bcg", files)
            seconds.append(time.process_time() - start)
        print(f"{name:28s} {1000 * statistics.median(seconds):6.0f} ms, {len(found.diagnostics)} findings")


if __name__ == "__main__":
    main()
