"""Erroneous texts, and what is said about each: code, line, column, the text over the caret, and part of the hint."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    code: str
    line: int
    column: int
    caret: str
    hint: str | None = None
    message: str = ""


@dataclass(frozen=True)
class Case:
    name: str
    text: str
    findings: tuple[Finding, ...]


def network(*lines: str, after: str = "", before: str = "") -> str:
    """A text whose network has these lines from line 5 on."""
    body = "".join(f"  {line}\n" for line in lines)
    return f"bcg 1\n{before}network net {{\n  input = image(3, 32, 32)\n  steps = 4\n{body}}}\n{after}"


def blocks(*lines: str, call: str = "body()", size: str = "3, 8, 8") -> str:
    """A text whose block `body` has these lines from line 3 on."""
    inner = "".join(f"  {line}\n" for line in lines)
    return (
        f"bcg 1\nblock body(n=4, on=true) {{\n{inner}}}\n"
        f"network net {{ input = image({size}); steps = 2; backbone = {call} }}\n"
    )


def space(*lines: str) -> str:
    """A section with a space that has these lines from line 9 on, after a network of one line."""
    body = "".join(f"  {line}\n" for line in lines)
    return f"search {{\n  space {{\n{body}  }}\n}}\n"


TINY = "backbone = tiny()"
END = ("flatten()", "fc = linear(10)")

CASES = (
    # --- The text ---------------------------------------------------------------------------------------------
    Case("empty text", "", (Finding("E020", 1, 1, "", "write `bcg 1` first"), Finding("E021", 1, 1, ""))),
    Case("NUL byte", "bcg 1\nnet\0work", (Finding("E003", 2, 4, "\0"),)),
    Case("lone surrogate", "bcg 1 # \ud800", (Finding("E003", 1, 9, "\ud800"),)),
    Case(
        "deep brackets",
        "bcg 1\nx = " + "(" * 80,
        (Finding("E004", 2, 69, "(", "split it"),),
    ),
    Case("deep expression", "bcg 1\nx = 1" + " + 1" * 80, (Finding("E004", 2, 73, "1"),)),
    Case(
        "malformed literals",
        network(TINY, 'readout = "mean', "norm = bn(eps=1e999)", "neuron = lif(tau=5x)"),
        (
            Finding("E005", 6, 13, '"mean', 'ends with `"`'),
            Finding("E005", 7, 17, "1e999", "64-bit"),
            Finding("E005", 8, 20, "5x"),
        ),
    ),
    Case(
        "a number too long to read",
        network(TINY).replace("steps = 4", "steps = 1" + "0" * 40),
        (Finding("E005", 4, 11, "1" + "0" * 40, "18 digits"),),
    ),
    Case(
        "an unknown escape",
        network(TINY, after=r'data = digits(root="\q")'),
        (Finding("E005", 7, 20, r'"\q"', r"`\n`"),),
    ),
    # --- Syntax -----------------------------------------------------------------------------------------------
    Case("a foreign character", network(TINY, "readout = me&n"), (Finding("E010", 6, 15, "&", "written `and`"),)),
    Case("a colon", network(TINY).replace("steps = 4", "steps: 4"), (Finding("E010", 4, 8, ":", "set with `=`"),)),
    Case("no value", network(TINY).replace("steps = 4", "steps ="), (Finding("E010", 4, 10, "", "expected a value"),)),
    Case(
        "no comma",
        network(TINY).replace("3, 32, 32", "3, 32 32"),
        (Finding("E010", 3, 23, "32", "expected `,` or `)`"),),
    ),
    Case(
        "an open parenthesis",
        network(TINY).replace("32, 32)", "32, 32"),
        (Finding("E010", 3, 16, "(", "add the `)`", "this `(` is never closed"),),
    ),
    Case("no separator", network(TINY + " readout = mean"), (Finding("E010", 5, 21, "readout", "a new line or `;`"),)),
    Case(
        "a misspelt keyword",
        network(TINY).replace("network", "netwrk"),
        (Finding("E010", 2, 8, "net", "did you mean `network`?"),),
    ),
    Case(
        "a keyword as a name",
        blocks("sum = conv(3)"),
        (Finding("E010", 3, 7, "=", "expected `{`"),),
    ),
    Case("a keyword as a parameter", "bcg 1\nblock b(in) { }\n", (Finding("E010", 2, 9, "in", "cannot be a name"),)),
    Case("a brace too many", network(TINY, after="}\n"), (Finding("E010", 7, 1, "}", message="closes nothing"),)),
    Case("a brace too few", network(TINY)[:-2], (Finding("E011", 2, 13, "{", "add the `}`"),)),
    Case(
        "a brace too few inside",
        blocks("sum {", "  branch {", "    l = lif()", "  branch { }", "}"),
        (Finding("E011", 4, 12, "{", "add the `}`"),),
    ),
    Case(
        "an open string before a bracket",
        network(TINY, after='data = digits(root="data)\n'),
        (Finding("E005", 7, 20, '"data)', 'ends with `"`'),),
    ),
    Case("an early end", "bcg 1\nnetwork", (Finding("E011", 2, 8, "", "expected a name"),)),
    Case(
        "several syntax errors",
        network("readout = = mean", "backward @1 <- @0", TINY, "norm bn()", after="data digits\ntrain { epochs = }\n"),
        (
            Finding("E010", 5, 13, "=", "expected a value"),
            Finding("E010", 6, 15, "<", "expected `->`"),
            Finding("E010", 8, 8, "bn"),
            Finding("E010", 10, 6, "digits", "expected"),
            Finding("E010", 11, 18, "}", "expected a value"),
        ),
    ),
    Case(
        "syntax and meaning in one run",
        network(TINY, "readout = men", "norm = ", after="train { epochs = 0 }\n"),
        (
            Finding("E043", 6, 13, "men", "did you mean `mean`?"),
            Finding("E010", 7, 10, ""),
            Finding("E041", 9, 18, "0", "1 to 1000000"),
        ),
    ),
    # --- Structure --------------------------------------------------------------------------------------------
    Case("no version", network(TINY)[6:], (Finding("E020", 1, 1, "network net {", "write `bcg 1` first"),)),
    Case("another version", "bcg 2" + network(TINY)[5:], (Finding("E020", 1, 1, "bcg 2", "this is version 1"),)),
    Case("a version in the middle", network(TINY, after="bcg 1\n"), (Finding("E020", 7, 1, "bcg 1"),)),
    Case("no network", "bcg 1\n", (Finding("E021", 1, 1, "", "network name"),)),
    Case(
        "two networks",
        network(TINY, after="network other { }\n"),
        (Finding("E021", 7, 9, "other", "case.bcg:2:9"),),
    ),
    Case(
        "no such import",
        network(TINY, before='import "residul.bcg"\n'),
        (Finding("E022", 2, 8, '"residul.bcg"', "did you mean `residual.bcg`?"),),
    ),
    Case(
        "plugins",
        network(TINY, before='use "no-such-plugin"\nuse "no-such-plugin"\n', after='use "late"\n'),
        (
            Finding("E024", 2, 5, '"no-such-plugin"', "`pip install no-such-plugin`", "is not installed"),
            Finding("E033", 3, 5, '"no-such-plugin"', "the first is at case.bcg:2:5"),
            Finding("E035", 9, 1, 'use "late"', "move it up"),
        ),
    ),
    Case(
        "names that mean nothing",
        blocks("a = conv(m)", "b = conv(nn)", "c = conv(input.chanels)", "l = lif()", *END),
        (
            Finding("E030", 3, 12, "m", "known here: `n`, `on`"),
            Finding("E030", 4, 12, "nn", "did you mean `n`?"),
            Finding("E030", 5, 12, "input.chanels", "`input.channels`"),
        ),
    ),
    Case(
        "unknown layers and blocks",
        blocks("a = cnv(3)", "b = basik(3)", "maxpol(2)", "l = lif()", *END),
        (
            Finding("E031", 3, 7, "cnv", "did you mean `conv`?"),
            Finding("E031", 4, 7, "basik"),
            Finding("E031", 5, 3, "maxpol", "did you mean `maxpool`?"),
        ),
    ),
    Case("an unknown backbone", network("backbone = tony()"), (Finding("E031", 5, 14, "tony", "`tiny`"),)),
    Case(
        "unknown settings",
        network(TINY, "redout = mean", after="train { los = tet }\nserch { }\nsearch { evolv { } }\n"),
        (
            Finding("E032", 6, 3, "redout", "did you mean `readout`?"),
            Finding("E032", 8, 9, "los", "did you mean `loss`?"),
            Finding("E032", 9, 1, "serch", "did you mean `search`?"),
            Finding("E032", 10, 10, "evolv", "did you mean `evolve`?"),
        ),
    ),
    Case(
        "names given twice",
        network(TINY, "steps = 5", after="train { }\ntrain { }\nsearch { init { scores = [n, n] } }\n"),
        (
            Finding("E033", 6, 3, "steps", "case.bcg:4:3"),
            Finding("E033", 9, 1, "train", "case.bcg:8:1"),
            Finding("E033", 10, 30, "n"),
        ),
    ),
    Case(
        "names that a torch module needs",
        blocks("class = conv(3)", "forward = bn()", "self = bn()", "is = lif()", "training = plif()", *END),
        (
            Finding("E036", 3, 11, "conv(3)", "for example `class_1`"),
            Finding("E036", 4, 13, "bn()", "for example `forward_1`"),
            Finding("E036", 7, 14, "plif()", "for example `training_1`"),
        ),
    ),
    Case(
        "blocks and layers defined twice",
        blocks("a = conv(3)", "a = bn()", "repeat i in range(2) { l = lif() }", *END)
        + "block body() { }\nblock conv() { }\nblock q(a, a) { }\n",
        (
            Finding("E033", 4, 3, "a", "case.bcg:3:3"),
            Finding("E033", 5, 26, "l", "[i] = ..."),
            Finding("E033", 10, 7, "body", "case.bcg:2:7"),
            Finding("E033", 11, 7, "conv", "another name"),
            Finding("E033", 12, 12, "a"),
        ),
    ),
    Case(
        "a network without its settings",
        "bcg 1\nnetwork net { }\n",
        (
            Finding("E034", 2, 9, "net", "input = image(3, 32, 32)"),
            Finding("E034", 2, 9, "net", "steps = 4"),
            Finding("E034", 2, 9, "net", "backbone = resnet18()"),
        ),
    ),
    Case(
        "layers without a name",
        blocks("conv(3)", "l = lif()", *END, "tiny()"),
        (Finding("E034", 3, 3, "conv", "name = conv(...)"), Finding("E034", 7, 3, "tiny", "name = tiny(...)")),
    ),
    Case(
        "statements out of place",
        network(TINY, "branch { }", "flatten()", "backward = 3", after="sum { }\nsearch = 3\ntrain { init { } }\n"),
        (
            Finding("E035", 6, 3, "branch"),
            Finding("E035", 7, 3, "flatten"),
            Finding("E010", 8, 12, "=", "a port"),
            Finding("E035", 10, 1, "sum"),
            Finding("E035", 11, 1, "search", "search { ... }"),
            Finding("E032", 12, 9, "init"),
        ),
    ),
    Case(
        "statements out of place in a block",
        blocks("branch { }", "a = 3", "backward @0 -> @0", "sum { l = lif() }", "q { }", "l = lif()", *END),
        (
            Finding("E035", 3, 3, "branch", "`sum` or `concat`"),
            Finding("E035", 4, 7, "3", "name = conv(...)"),
            Finding("E035", 5, 12, "@0 -> @0"),
            Finding("E035", 6, 9, "l = lif()", "branch { ... }"),
            Finding("E035", 7, 3, "q"),
        ),
    ),
    # --- Values -----------------------------------------------------------------------------------------------
    Case(
        "wrong types",
        network('backbone = tiny("a")', "readout = 3", "neuron = 4", "norm = lif()").replace(
            "steps = 4", "steps = 2.5"
        ),
        (
            Finding("E040", 4, 11, "2.5", message="`steps` needs a whole number from 1 to 10000, not 2.5"),
            Finding("E040", 5, 19, '"a"'),
            Finding("E044", 5, 19, '"a"'),
            Finding("E040", 6, 13, "3", message="`readout` needs `mean` or `last`, not 3"),
            Finding("E040", 7, 12, "4", message="`neuron` needs a call of a neuron, not 4"),
            Finding("E043", 8, 10, "lif", "allowed: `bn`"),
        ),
    ),
    Case(
        "wrong types in sections",
        network(
            TINY,
            after="data = 3\nsearch { init { scores = n }; max_backward = two; same_resolution = 1 }\n"
            "train { schedule = 3; optimizer = adamw(lr=[1]) }\n",
        ),
        (
            Finding("E040", 7, 8, "3", "data = digits()"),
            Finding("E040", 8, 26, "n", "write `[n]`"),
            Finding("E040", 8, 46, "two"),
            Finding("E040", 8, 69, "1", message="`same_resolution` needs `true` or `false`, not 1"),
            Finding("E040", 9, 20, "3"),
            Finding("E040", 9, 44, "[1]"),
        ),
    ),
    Case(
        "values out of range",
        network(
            "backbone = tiny(0)",
            "neuron = lif(tau=1.5, threshold=0)",
            after="search { evolve { mutation = 2 }; init { pool = -1 } }\ntrain { epochs = 1000001 }\n",
        ).replace("steps = 4", "steps = 0"),
        (
            Finding("E041", 4, 11, "0", "allowed: 1 to 10000"),
            Finding("E041", 5, 19, "0", "allowed: 1 to 1000000"),
            Finding("E041", 6, 20, "1.5", "allowed: 0 to 1"),
            Finding("E041", 6, 35, "0", "allowed: 1e-12 to 1e12"),
            Finding("E041", 8, 30, "2", "allowed: 0 to 1"),
            Finding("E041", 8, 49, "-1", "allowed: 0 to 1000000"),
            Finding("E041", 9, 18, "1000001", "allowed: 1 to 1000000"),
        ),
    ),
    Case(
        "nesterov without a momentum",
        network("backbone = tiny()", after="train { optimizer = sgd(momentum=0, nesterov=true) }\n"),
        (Finding("E041", 7, 21, "sgd(momentum=0, nesterov=true)", message="needs a momentum above 0"),),
    ),
    Case(
        "a threshold that float32 takes for zero",
        network("backbone = tiny()", "neuron = lif(threshold=1e-50)"),
        (Finding("E041", 6, 26, "1e-50", "allowed: 1e-12 to 1e12"),),
    ),
    Case(
        "values of layers out of range",
        blocks("a = conv(n - 4, kernel=0)", "dropout(1)", "l = lif(tau=-0.5)", *END),
        (
            Finding("E041", 3, 12, "n - 4", "allowed: 1 to 1000000"),
            Finding("E041", 3, 26, "0", "allowed: 1 to 1000000"),
            Finding("E041", 4, 11, "1", "allowed: at least 0 and less than 1"),
            Finding("E041", 5, 15, "-0.5", "allowed: 0 to 1"),
        ),
    ),
    Case(
        "wrong arguments",
        network("backbone = tiny(16, 10, true, 5, widht=3, width=4)", "norm = bn(stats=shared)").replace(
            "image(3, 32, 32)", "image(3, height=32)"
        ),
        (
            Finding("E042", 3, 11, "image(3, height=32)", "image(channels, height, width)"),
            Finding("E042", 5, 33, "5", "tiny(width=..., classes=..., residual=...)"),
            Finding("E042", 5, 36, "widht", "did you mean `width`?"),
            Finding("E042", 5, 45, "width=4"),
            Finding("E042", 6, 13, "stats", "did you mean `statistics`?"),
        ),
    ),
    Case(
        "arguments in the wrong order",
        blocks("a = conv(kernel=3, 8)", "l = lif()", *END),
        (Finding("E042", 3, 22, "8"),),
    ),
    Case(
        "words that are not allowed",
        network(
            TINY,
            "readout = men",
            "neuron = lif(reset=herd, surrogate=triangel())",
            after="search { init { scores = [n, f]; pool = every }; evolve { strategy = evolution } }\n"
            "train { loss = tat; optimizer = adam() }\n",
        ).replace("image", "images"),
        (
            Finding(
                "E043", 3, 11, "images", "did you mean `image`? (allowed: `image`, `sequence`, `signal`, `vector`)"
            ),
            Finding("E043", 6, 13, "men", "did you mean `mean`?"),
            Finding("E043", 7, 22, "herd", "did you mean `hard`?"),
            Finding("E043", 7, 38, "triangel", "did you mean `triangle`?"),
            Finding(
                "E043", 9, 30, "f", "allowed: `e`, `grad_norm`, `late_locality`, `locality`, `n`, `naswot`, `snip`"
            ),
            Finding("E043", 9, 41, "every", "0 to 1000000, or `all`"),
            Finding("E043", 9, 70, "evolution", "did you mean `evolutionary`?"),
            Finding("E043", 10, 16, "tat", "did you mean `tet`?"),
            Finding("E043", 10, 33, "adam", "did you mean `adamw`?"),
        ),
    ),
    Case(
        "expressions without a value",
        blocks(
            "a = conv(8 // 0)",
            "b = conv(n + on)",
            "c = conv(999999999999 * 999999999999)",
            "if n { }",
            "d = conv(-on)",
            "e = conv(not 3)",
            "repeat i in 3 { }",
            "l = lif()",
            *END,
        ),
        (
            Finding("E044", 3, 12, "8 // 0", message="division by zero"),
            Finding("E044", 4, 16, "on", message="`+` needs numbers, not a boolean"),
            Finding("E044", 5, 12, "999999999999 * 999999999999", message="out of range"),
            Finding("E044", 6, 6, "n", message="`if` needs `true` or `false`, not 4"),
            Finding("E044", 7, 13, "on"),
            Finding("E044", 8, 16, "3"),
            Finding("E040", 9, 15, "3", "range(3)"),
        ),
    ),
    Case(
        "the shape of an input that is a vector",
        blocks("l = lif()", "flatten()", "q = inner()") + "block inner() { fc = linear(input.channels) }\n",
        (Finding("E044", 8, 29, "input.channels", "`input.features`"),),
    ),
    # --- The network ------------------------------------------------------------------------------------------
    Case(
        "a layer that does not fit",
        blocks("l = lif()", "fc = linear(10)"),
        (Finding("E050", 4, 8, "linear(10)", "put a flatten() before it", "`fc`: linear needs a vector"),),
    ),
    Case(
        "a kernel larger than what is left",
        blocks("avgpool(4)", "avgpool(4)", "l = lif()", *END),
        (Finding("E050", 4, 3, "avgpool(4)", "too small"),),
    ),
    Case(
        "a padding that follows from the kernel and is too large",
        blocks("a = conv(4, kernel=1000000, dilation=1000000)", "l = lif()", *END),
        (Finding("E041", 3, 7, "conv(4, kernel=1000000, dilation=1000000)", message="`padding`: "),),
    ),
    Case(
        "channels that do not divide",
        blocks("a = conv(6, groups=4)", "l = lif()", *END),
        (Finding("E050", 3, 7, "conv(6, groups=4)"),),
    ),
    Case(
        "a standard backbone on a small image",
        network("backbone = vggsnn()").replace("32, 32", "8, 8"),
        (Finding("E050", 5, 14, "vggsnn", "too small for this depth"),),
    ),
    Case(
        "branches of different shapes",
        blocks("sum {", "  branch { a = conv(8) }", "  branch { b = conv(9) }", "}", "l = lif()", *END),
        (Finding("E051", 3, 3, "sum", "same channels", "8x8x8 and 9x8x8"),),
    ),
    Case(
        "branches of different sizes",
        blocks("concat {", "  branch { avgpool(2) }", "  branch { }", "}", "l = lif()", *END),
        (Finding("E051", 3, 3, "concat", "height and width"),),
    ),
    Case("an image at the end", blocks("l = lif()"), (Finding("E052", 5, 61, "body()", "flatten()"),)),
    Case("no LIF", blocks(*END), (Finding("E053", 6, 61, "body()", "name = neuron()"),)),
    Case(
        "too many layers",
        blocks("repeat i in range(30000) { [i] = lif() }", *END),
        (Finding("E054", 3, 36, "lif()", "before it is built", "20,000 layers"),),
    ),
    Case(
        "too many steps of work",
        blocks("repeat i in range(1000000000) { }", "l = lif()", *END),
        (Finding("E054", 3, 3, "repeat"),),
    ),
    Case(
        "too many weights",
        network("backbone = resnet18(width=30000)"),
        (Finding("E054", 5, 14, "resnet18", message="2,000,000,000 trained values"),),
    ),
    Case(
        "too large an input",
        network(TINY).replace("3, 32, 32", "3, 1000000, 1000000"),
        (Finding("E054", 3, 11, "image(3, 1000000, 1000000)"),),
    ),
    Case(
        "too long an unrolling",
        blocks("repeat i in range(1000) { [i] = lif() }", *END).replace("steps = 2", "steps = 9999"),
        (Finding("E054", 7, 47, "9999", message="1,002 layers in 9,999 steps"),),
    ),
    Case(
        "blocks that call each other",
        blocks("a = other()") + "block other() { b = body() }\n",
        (Finding("E055", 6, 21, "body", "use `repeat`", "body -> other -> body"),),
    ),
    # --- Backward connections ---------------------------------------------------------------------------------
    Case(
        "unknown ports",
        network(TINY, "backward @9 -> @0", "backward lif9 -> lif1", "backward layer2.0.lif -> qwertz"),
        (
            Finding("E060", 6, 12, "@9", "@0 to @4"),
            Finding("E060", 7, 12, "lif9", "did you mean `lif1`?"),
            Finding("E060", 8, 12, "layer2.0.lif", "`layer2.0.lif"),
            Finding("E060", 8, 28, "qwertz", "`lif1` to `layer2.0.lif2`"),
        ),
    ),
    Case(
        "forward connections",
        network(TINY, "backward @0 -> @4", "backward lif1 -> layer1.0.lif2"),
        (
            Finding("E061", 6, 12, "@0 -> @4", "did you mean `@4 -> @0`?"),
            Finding("E061", 7, 12, "lif1 -> layer1.0.lif2", "did you mean `layer1.0.lif2 -> lif1`?"),
        ),
    ),
    Case(
        "a connection given twice",
        network(TINY, "backward @2 -> @1", "backward layer1.0.lif2 -> @1 { gain = 0.5 }"),
        (Finding("E062", 7, 12, "layer1.0.lif2 -> @1", "case.bcg:6:12"),),
    ),
    Case(
        "a forward connection that runs backward",
        network(TINY, "forward @4 -> @0", "forward @2 -> @2", "forward @0 -> @2 { delay = 0 }; forward @0 -> @2"),
        (
            Finding("E061", 6, 11, "@4 -> @0", "did you mean `@0 -> @4`?"),
            Finding("E061", 7, 11, "@2 -> @2", "write `backward @2 -> @2`"),
        ),
    ),
    Case(
        "projections that do not fit",
        network(
            TINY,
            "backward @4 -> @0 { through = half() }",
            "backward @4 -> @1 { through = same() }",
            "backward @3 -> @1 { through = firing() }",
            "backward @2 -> @1 { through = bare(); gain = 0.5 }",
            "backward @1 -> @1 { through = projekt() }",
            "backward @0 -> @0 { through = half(channels=3) }",
            "feedback = 3",
            before="block half(channels) { resize(nearest); conv = conv(channels // 2, 1) }\n"
            "block same() { bn = bn() }\n"
            "block firing(channels) { resize(nearest); conv = conv(channels, 1); s = lif() }\n"
            "block bare(channels) { resize(nearest); conv = conv(channels, 1) }\n",
        ),
        (
            Finding("E064", 10, 33, "half()", "`channels` is the target's"),
            Finding("E064", 11, 12, "@4 -> @1", "its layers have to lead"),
            Finding("E035", 12, 33, "firing", "ports of the backbone"),
            Finding("E064", 13, 48, "0.5", "end the block in a norm"),
            Finding("E031", 14, 33, "projekt", "did you mean `project`?"),
            Finding("E042", 15, 33, "half(channels=3)"),
            Finding("E040", 16, 14, "3", "write `feedback = project()`"),
        ),
    ),
    Case(
        "values that a neuron does not have, and joins that there are not",
        network(
            TINY, "backward @4 -> @0 { read = w }", "forward @0 -> @4 { read = 3 }", "backward @3 -> @0 { join = max }"
        ),
        (
            Finding("E065", 6, 30, "w", "it has `u`, `s`, `v`"),
            Finding("E040", 7, 29, "3", "write `read = u`"),
            Finding("E043", 8, 30, "max", "`add`, `mul`"),
        ),
    ),
    Case(
        "a resize in a backbone, and connections of a space in a network",
        network(
            "backbone = own()",
            "fixed @0 -> @0",
            before="block own() { resize(nearest); s = lif(); flatten(); fc = linear(10) }\n",
        ),
        (
            Finding("E035", 2, 15, "resize", "a block that a connection names"),
            Finding("E035", 7, 3, "fixed", "`backward source -> target`"),
        ),
    ),
    Case(
        "delays",
        network(
            TINY,
            "backward @4 -> @4 { delay = 0 }",
            "backward @3 -> @3 { delay = 1001 }",
            "backward @2 -> @2 { dely = 2 }",
            "backward @1 -> @1 { delay = 1.5 }",
        ),
        (
            Finding("E063", 6, 31, "0", "allowed: 1 to 1000"),
            Finding("E063", 7, 31, "1001", "allowed: 1 to 1000"),
            Finding("E032", 8, 23, "dely", "did you mean `delay`?"),
            Finding("E040", 9, 31, "1.5"),
        ),
    ),
    Case(
        "lines of a space",
        network(
            TINY,
            after=space(
                "backward any -> lif9",
                "forward later -> any",
                "fixed @1 -> @1 { delay = [1, 1001] }",
                "forbid any -> any { dely = 1 }",
                "backward any -> any { delay = [1, 1] }",
                "at_mots = 3",
                "train { epochs = 2 }",
            ),
        ),
        (
            Finding("E060", 9, 19, "lif9", "did you mean `lif1`?"),
            Finding("E066", 10, 11, "later", "ports after the source"),
            Finding("E063", 11, 32, "1001", "allowed: 0 to 1000"),
            Finding("E032", 12, 23, "dely", "did you mean `delay`?"),
            Finding("E041", 13, 37, "1"),
            Finding("E032", 14, 3, "at_mots", "did you mean `at_most`?"),
            Finding("E032", 15, 3, "train"),
        ),
    ),
    Case(
        "a space that contradicts itself",
        network(
            TINY,
            after=space(
                "backward @0 -> @3",
                "fixed @4 -> @4",
                "fixed @4 -> @4",
                "backward @4 -> @0",
                "forbid @4 -> any",
                "fixed any -> @1",
            ),
        ),
        (
            Finding("E066", 9, 12, "@0 -> @3", "ends at its source or before it", "matches no connection"),
            Finding("E066", 10, 9, "@4 -> @4", "one of the two lines", "is fixed, but `forbid @4 -> any`"),
            Finding("E066", 11, 9, "@4 -> @4", "the first is at case.bcg:10:9", "fixed twice"),
            Finding("E066", 11, 9, "@4 -> @4", "one of the two lines", "is fixed, but `forbid @4 -> any`"),
            Finding("E066", 12, 12, "@4 -> @0", "forbid less", "leave nothing of `backward @4 -> @0`"),
            Finding("E066", 14, 9, "any -> @1", "names two ports", "is not one connection"),
        ),
    ),
    Case(
        "delays and words that a line of a space cannot have",
        network(TINY, after=space("backward any -> any { delay = [0, 1] }", "backward @3 -> later")),
        (
            Finding("E063", 9, 12, "any -> any", "1 to 1000"),
            Finding("E066", 10, 12, "@3 -> later", "write `any`"),
        ),
    ),
    Case(
        "an empty space",
        network(TINY, after=space()),
        (Finding("E066", 8, 3, "space", "backward any -> any", "it names no connection"),),
    ),
    Case(
        "two bounds of one search",
        network(TINY, after="search {\n  max_backward = 3\n  space { backward any -> any }\n}\n"),
        (Finding("E041", 9, 3, "space", None, "a `space` has `at_most`"),),
    ),
    Case(
        "bounds of a search",
        network(
            TINY,
            after="search {\n  subject_to {\n    energy <= 2 * baseline\n    state >= 9\n    parametres <= 5\n"
            "    operations <= baseline ** 2\n    state <= 64_000\n    state <= baseline\n    parameters <= true\n"
            "    7\n  }\n}\n",
        ),
        (
            Finding("E067", 9, 15, "2 * baseline", "write a number", "but not for `energy`"),
            Finding("E067", 10, 5, "state >= 9", "write `state <= ...`"),
            Finding("E067", 11, 5, "parametres", "did you mean `parameters`?"),
            Finding("E067", 12, 19, "baseline ** 2", "parameters <= 1.1 * baseline"),
            Finding("E033", 14, 5, "state", "case.bcg:13:5"),
            Finding("E067", 15, 19, "true"),
            Finding("E067", 16, 5, "7"),
        ),
    ),
    Case(
        "bounds on what is measured",
        network(
            TINY,
            after="search {\n  subject_to {\n    accuracy <= 0.5\n    accuracy >= 1.5\n    spikes >= 9\n"
            "    n >= baseline\n    latency <= -1\n    e >= -1\n    accuracy > 0.5\n    spike <= 9\n  }\n}\n",
        ),
        (
            Finding("E067", 9, 5, "accuracy <= 0.5", "write `accuracy >= ...`"),
            Finding("E067", 10, 17, "1.5", "from 0 to 1"),
            Finding("E067", 11, 5, "spikes >= 9", "write `spikes <= ...`"),
            Finding("E067", 12, 10, "baseline", "write a number", "but not for `n`"),
            Finding("E067", 13, 16, "-1"),
            Finding("E067", 15, 5, "accuracy > 0.5"),
            Finding("E067", 16, 5, "spike", "did you mean `spikes`?"),
        ),
    ),
    Case(
        "objectives of a search",
        network(TINY, after="search {\n  maximize = [accuracy, speed]\n  minimize = [state]\n}\n"),
        (Finding("E043", 8, 25, "speed"),),
    ),
    Case(
        "objectives of a strategy that measures no candidates",
        network(TINY, after="search {\n  minimize = [state]\n  evolve { strategy = gains }\n}\n"),
        (Finding("E089", 9, 12, "strategy = gains", "maximize = [accuracy]", "cannot go by `state`"),),
    ),
    Case(
        "an objective twice",
        network(TINY, after="search {\n  maximize = [accuracy]\n  minimize = [accuracy]\n}\n"),
        (Finding("E041", 8, 3, "maximize", None, "is an objective twice"),),
    ),
    Case(
        "an unknown data set",
        network(TINY, after="data = cifar(batch=3)\n"),
        (Finding("E080", 7, 8, "cifar", "did you mean `cifar10`?"),),
    ),
    Case(
        "a mistake in a block that nobody calls",
        network(TINY, before="block unused(n) { a = conv(n, kernal=3); b = cnv(m); c = lif(reset=herd) }\n"),
        (
            Finding("E042", 2, 31, "kernal", "did you mean `kernel`?"),
            Finding("E031", 2, 46, "cnv", "did you mean `conv`?"),
            Finding("E043", 2, 68, "herd", "did you mean `hard`?"),
        ),
    ),
    # --- A search in one training run --------------------------------------------------------------------------
    Case(
        "settings of another strategy",
        network(
            TINY, after="search { evolve { keep = 2; strategy = random; gain = 0.1; stages = 3; mutation = 0.5 } }"
        ),
        (
            Finding("E035", 7, 19, "keep", "write `strategy = gains`, or leave it out", "`keep` is a setting of"),
            Finding("E035", 7, 48, "gain"),
            Finding("E035", 7, 60, "stages"),
        ),
    ),
    Case(
        "settings of a strategy that is misspelt",
        network(TINY, after="search { evolve { strategy = gain; keep = 2 } }"),
        (Finding("E043", 7, 30, "gain", "`gains`"),),
    ),
    Case(
        "a strategy that keeps more than there is",
        network(TINY, after="search { evolve { strategy = gains; keep = 16 } }"),
        (Finding("E089", 7, 37, "keep = 16", "at most 15", "the space has 15 connections"),),
    ),
    Case(
        "a penalty on nothing",
        network(TINY, after="search { max_backward = 0; evolve { strategy = gains; penalty = 1.5 } }"),
        (Finding("E089", 7, 55, "penalty = 1.5", "`max_backward` of 1 or more", "the space has none"),),
    ),
    Case(
        "a schedule of prunings longer than the run",
        network(TINY, after="train { epochs = 9 }\nsearch { evolve { strategy = gains; stages = 5; keep = 99 } }"),
        (
            Finding("E089", 8, 37, "stages = 5", "more epochs", "`prune_until = 0.5` of 9 epochs are 4"),
            Finding("E089", 8, 49, "keep = 99"),
        ),
    ),
    Case(
        "prunings without a word about them",
        network(TINY, after="train { epochs = 3 }\nsearch { evolve { strategy = gains } }"),
        (Finding("E089", 8, 19, "strategy = gains", "fewer stages"),),
    ),
    Case(
        "a strategy and a score that it does not go by",
        network(TINY, after="search { evolve { strategy = gains; score = n } }"),
        (Finding("E089", 7, 37, "score = n", "leave `score` out"),),
    ),
    Case(
        "a bound that leaves nothing",
        network(TINY, after="search { evolve { strategy = gains; extra_operations = 1e-6 } }"),
        (Finding("E089", 7, 37, "extra_operations = 1e-6", "at least 0.0", "leaves no connection"),),
    ),
    Case(
        "settings of prunings out of range",
        network(TINY, after="search { evolve { strategy = gains; gain = -0.1; keep = 0; stages = 0 } }"),
        (
            Finding("E041", 7, 44, "-0.1", "0 to 100"),
            Finding("E041", 7, 57, "0", "1 to 1000000"),
            Finding("E041", 7, 69, "0", "1 to 1000000"),
        ),
    ),
    Case(
        "shares of prunings out of range",
        network(TINY, after="search { evolve { strategy = gains; prune_until = 1; penalty = 1e13 } }"),
        (
            Finding("E041", 7, 51, "1", "more than 0 and less than 1"),
            Finding("E041", 7, 64, "1e13", "0 to 1e12"),
        ),
    ),
    Case(
        "a gain that is far too large",
        network(TINY, after="search { evolve { strategy = gains; gain = 1000 } }"),
        (Finding("E041", 7, 44, "1000", "0 to 100"),),
    ),
)
