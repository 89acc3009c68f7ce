"""Run as a program: reads every hostile text within a gigabyte, and prints what came of it as JSON, one line a text."""

import json
import resource
import sys
import time
import traceback

PLAIN = "l = lif(); flatten(); fc = linear(2)"
NETWORK = "network a { input = image(3, 8, 8); steps = 2; backbone = b0() }\n"


def calls(*inner: str, last: str = "") -> str:
    """Sixty blocks, each of which calls the next one."""
    text = ["bcg 1"]
    for number in range(60):
        text.append(f"block b{number}() {{ {'; '.join(f'{n} = b{number + 1}()' for n in inner)} }}")
    return "\n".join([*text, f"block b60() {{ {last} }}", NETWORK])


def block(body: str) -> str:
    return f"bcg 1\nblock b0() {{ {body} }}\n{NETWORK}"


# Name -> text, and the code of the first finding (None: the text is fine).
TEXTS: dict[str, tuple[str, str | None]] = {
    "parentheses": ("bcg 1\nx = " + "(" * 500_000, "E004"),
    "braces": ("bcg 1\n" + "a { " * 200_000, "E004"),
    "lists": ("bcg 1\nx = " + "[" * 900_000, "E004"),
    "semicolons": (";" * 1_000_000, "E002"),
    "line ends": ("\n" * 1_000_000, "E002"),
    "minus signs": ("bcg 1\nx = " + "-" * 90_000 + "1", "E004"),
    "a long sum": ("bcg 1\nx = 1" + "+1" * 40_000, "E004"),
    "conditions": ("bcg 1\nx = " + "1 if a else " * 20_000 + "1", "E004"),
    "else if": ("bcg 1\nblock b() { if a { }" + " else if a { }" * 15_000 + " }\n", "E004"),
    "a comment": ("bcg 1 #" + "x" * 1_000_000 + "\n" + block(PLAIN)[6:], None),
    "an open string": ('bcg 1\nx = "' + "a" * 1_000_000, "E032"),
    "escapes": ('bcg 1\nx = "' + "\\n" * 500_000 + '"', "E021"),
    "digits": ("bcg 1\nx = " + "9" * 1_000_000, "E032"),
    "decimals": ("bcg 1\nx = 0." + "9" * 1_000_000, "E032"),
    "an exponent": ("bcg 1\nx = 1e" + "9" * 300, "E032"),
    "a name": ("bcg 1\nnetwork " + "a" * 1_000_000 + " { }", "E010"),
    "a port": (
        block(PLAIN)[:-2] + "; backward a" + ".a" * 400_000 + " -> l }",
        "E060",
    ),
    "foreign characters": ("$" * 1_000_000, "E002"),
    "errors on every line": ("bcg 1\n" + "a = ;\n" * 19_000, "E010"),
    "open strings": ('"\n' * 40_000, "E005"),
    "arguments": ("bcg 1\n" + NETWORK.replace("b0()", "tiny(" + "a=1," * 20_000 + ")"), "E042"),
    "parameters": ("bcg 1\nblock b0(" + ",".join(f"p{n}=1" for n in range(20_000)) + ") { }\n" + NETWORK, "E052"),
    "many blocks": ("bcg 1\n" + "block a() { }\n" * 12_000 + NETWORK, "E033"),
    "a long repetition": (block("repeat i in range(999999999999) { [i] = lif() }"), "E054"),
    "an empty repetition": (block("repeat i in range(999999999999) { }"), "E054"),
    "nested repetitions": (block("repeat i in range(99999) { repeat j in range(99999) { } }"), "E054"),
    "doubling": (calls("x", "y", last="l = lif()"), "E054"),
    "doubling nothing": (calls("x", "y"), "E054"),
    "squaring": (
        "bcg 1\n"
        + "".join(f"block b{n}(k=9) {{ x = b{n + 1}(k * k) }}\n" for n in range(60))
        + f"block b60(k) {{ }}\n{NETWORK}",
        "E044",
    ),
    "a chain of calls": (
        "bcg 1\n" + "".join(f"block b{n}() {{ x = b{n + 1}() }}\n" for n in range(3_000)) + NETWORK,
        "E004",
    ),
    "many layers without a name": (block("repeat i in range(19000) { dropout(0.5) }; " + PLAIN), None),
    "recursion": (block("x = b0()"), "E055"),
    "nested sums": (
        block("sum { branch { }; branch { " * 30 + "} }" * 30 + f"; {PLAIN}"),
        None,
    ),
    "a wide sum": (block("sum { " + "branch { }; " * 19_000 + "}; l = lif(); flatten(); f = linear(2)"), None),
    "wide layers": (block("l = lif(); flatten(); a = linear(1000000); b = linear(1000000)"), "E054"),
    "a large input": ("bcg 1\n" + NETWORK.replace("3, 8, 8", "1000000, 1000000, 1000000"), "E054"),
    "unknown ports": (
        block("repeat i in range(15000) { [i] = lif() }; flatten(); f = linear(1)")[:-2]
        + "".join(f"\nbackward port{n} -> @0" for n in range(15_000))
        + "}",
        "E060",
    ),
    "an import that never ends": ('bcg 1\nimport "/dev/zero"\n', "E021"),
    "a long path": ('bcg 1\nimport "' + "a/" * 300_000 + '"\n', "E021"),
    "many imports": ("bcg 1\n" + 'import "a.bcg"\n' * 20_000, "E022"),
    "too large": ("#" * (1024 * 1024 + 1), "E002"),
}


# Texts whose syntax is in order: the others end in the parser in any case.
FORMATTED = ("a comment", "arguments", "parameters", "many blocks", "a wide sum", "nested sums", "unknown ports")


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    from bcgraph import dsl
    from bcgraph.errors import BcgraphError

    tasks = [(name, lambda text=text: dsl.parse(text)) for name, (text, _) in TEXTS.items()]
    tasks += [(f"format {name}", lambda text=TEXTS[name][0]: dsl.format_text(text)) for name in FORMATTED]
    tasks += [(f"file {path}", lambda path=path: dsl.load(path)) for path in sys.argv[1:]]
    for name, task in tasks:
        start = time.process_time()
        code, shown, wrong = None, 0, None
        try:
            task()
        except BcgraphError as error:
            code, shown = error.code, len(str(error))
        except BaseException:
            wrong = traceback.format_exc(limit=-3)[-2000:]
        seconds = time.process_time() - start
        print(json.dumps({"name": name, "code": code, "shown": shown, "seconds": seconds, "wrong": wrong}), flush=True)


if __name__ == "__main__":
    main()
