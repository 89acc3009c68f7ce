"""Erroneous neurons and surrogates, and what is said about each."""

from tests.errors.cases import Case, Finding

S = "s = spike(v - 1, triangle())"


def neuron(*lines: str, head: str = "own()", call: str = "own()") -> str:
    """A text whose neuron has these lines from line 3 on."""
    body = "".join(f"  {line}\n" for line in lines)
    after = f"network net {{ input = image(3, 8, 8); steps = 2; neuron = {call}; backbone = tiny() }}\n"
    return f"bcg 1\nneuron {head} {{\n{body}}}\n{after}"


def surrogate(*lines: str, head: str = "own()") -> str:
    """A text whose surrogate has these lines from line 3 on."""
    return neuron(*lines, head=head, call="lif(surrogate=own())").replace("neuron", "surrogate", 1)


def case(name: str, text: str, *findings: Finding) -> Case:
    return Case(name, text, findings)


DEFINITIONS = (
    case(
        "unknown name in an equation",
        neuron("state v = 0", "v = tua * v + I", S, head="own(tau=0.5)"),
        Finding("E030", 4, 7, "tua", "did you mean `tau`?"),
    ),
    case(
        "state never assigned",
        neuron("state v = 0", "state w = 0", "v = v + I", S),
        Finding("E034", 4, 9, "w", "write `w = ...`"),
    ),
    case(
        "equations in a cycle",
        neuron("a = b + I", "b = a", "s = spike(b, triangle())"),
        Finding("E030", 3, 7, "b", "has to be a `state`", "read before it is assigned"),
    ),
    case(
        "division by a constant zero",
        neuron("state v = 0", "v = v + I / none", S, head="own(none=0)"),
        Finding("E044", 4, 11, "I / none", message="division by zero"),
    ),
    case(
        "constant without a value",
        neuron("state v = 0", "v = v + I * log(-1)", S),
        Finding("E044", 4, 15, "log(-1)"),
    ),
    case(
        "huge definition",
        neuron(*(f"a{i} = I{' + I' * 40}" for i in range(60)), "state v = 0", "v = I", S),
        Finding("E054", 2, 8, "own", message="more than 2,000"),
    ),
    case(
        "surrogate calls itself in a default",
        surrogate("x", head="own(other=own())"),
        Finding("E055", 2, 21, "own", message="`own` calls itself"),
    ),
    case(
        "surrogate calls itself in its expression",
        surrogate("spike(x, own())"),
        Finding("E055", 3, 12, "own", message="`own` calls itself"),
    ),
    case(
        "neuron in an equation",
        neuron("state v = 0", "v = own(v) + I", S),
        Finding("E031", 4, 7, "own", "`exp`", "there is no function `own`"),
    ),
    case(
        "name of a standard neuron",
        neuron("state v = 0", "v = v + I", S, head="plif()", call="plif()"),
        Finding("E033", 2, 8, "plif", "another name", "a neuron of the standard library"),
    ),
    case(
        "name of the neuron that is a layer",
        neuron("state v = 0", "v = v + I", S, head="lif()", call="lif()"),
        Finding("E033", 2, 8, "lif", "another name"),
    ),
    case(
        "name of a function",
        neuron("state v = 0", "v = v + I", S, head="tanh()", call="lif()"),
        Finding("E033", 2, 8, "tanh", "another name", "a function of equations"),
    ),
    case(
        "function assigned",
        neuron("state v = 0", "exp = v + I", "v = exp", S),
        Finding("E033", 4, 3, "exp", message="has a meaning in every equation"),
    ),
    case(
        "parameter assigned",
        neuron("state v = 0", "tau = 0.3", "v = v + I", S, head="own(tau=0.5)"),
        Finding("E033", 4, 3, "tau", "another name"),
    ),
    case(
        "parameter as a state",
        neuron("state tau = 0", "tau = tau + I", "s = spike(tau, triangle())", head="own(tau=0.5)"),
        Finding("E033", 3, 9, "tau", "the first is at case.bcg:2:12"),
    ),
    case(
        "parameters with names of equations",
        neuron("s = relu(I)", head="own(pi=3, I=1, s=2, exp=4)"),
        Finding("E033", 2, 12, "pi=3", message="a number of every equation"),
        Finding("E033", 2, 18, "I=1", message="the current of the step"),
        Finding("E033", 2, 23, "s=2", message="what the neuron sends"),
        Finding("E033", 2, 28, "exp=4", message="a function of equations"),
    ),
    case("current assigned", neuron("I = 3", "s = relu(I)"), Finding("E033", 3, 3, "I", "another name")),
    case(
        "assigned twice",
        neuron("state v = 0", "a = I", "a = 2 * I", "v = a", S),
        Finding("E033", 5, 3, "a", "the first is at case.bcg:4:3"),
    ),
    case(
        "nothing is sent",
        neuron("state v = 0", "v = v + I"),
        Finding("E034", 2, 8, "own", "s = spike(u - threshold, surrogate)"),
    ),
    case(
        "what is sent does not depend on the current",
        neuron("state v = 0", "v = v + 1", S),
        Finding("E044", 5, 3, "s", message="does not depend on `I`"),
    ),
    case(
        "comparison as a number",
        neuron("state v = 0", "v = v + (I > 0)", S),
        Finding("E044", 4, 12, "I > 0", "1 if ... else 0"),
    ),
    case("number as a condition", neuron("state v = 0", "v = v if I else 0", S), Finding("E044", 4, 12, "I")),
    case(
        "number in the place of a surrogate",
        neuron("state v = 0", "v = v + I", "s = spike(v - 1, 3)"),
        Finding("E044", 5, 20, "3", "`triangle()`"),
    ),
    case(
        "wrong argument of a surrogate",
        neuron("state v = 0", "v = v + I", "s = spike(v - 1, triangle(widht=2))"),
        Finding("E042", 5, 29, "widht", "did you mean `width`?"),
    ),
    case(
        "argument of a surrogate that is no number",
        neuron("state v = 0", "v = v + I", "s = spike(v - 1, triangle(width=I))"),
        Finding("E040", 5, 35, "I", message="`width` needs a number"),
    ),
    case(
        "unknown surrogate",
        neuron("state v = 0", "v = v + I", "s = spike(v - 1, triangel())"),
        Finding("E031", 5, 20, "triangel", "did you mean `triangle`?", "no surrogate"),
    ),
    case(
        "spike without a surrogate",
        neuron("state v = 0", "v = v + I", "s = spike(v - 1)"),
        Finding("E042", 5, 7, "spike(v - 1)", "spike(u - threshold, surrogate)"),
    ),
    case(
        "learned by something else than channels",
        neuron("learn[foo] w = 1", "state v = 0", "v = v + w * I", S),
        Finding("E032", 3, 3, "learn[foo] w = 1", "`learn[channels]`"),
    ),
    case(
        "state by channel",
        neuron("state[channels] v = 0", "v = v + I", S),
        Finding("E032", 3, 3, "state[channels] v = 0", "write `state v = ...`"),
    ),
    case(
        "first value that no parameter decides",
        neuron("learn w = 1", "state v = w", "v = v + I", S),
        Finding("E044", 4, 13, "w", message="the first value of `v`"),
    ),
    case(
        "wrong word before a name",
        neuron("lern w = 1", "state v = 0", "v = v + w * I", S),
        Finding("E010", 3, 8, "w", "did you mean `learn`?"),
    ),
    case(
        "wrong word before a definition",
        neuron("s = relu(I)").replace("neuron own", "neurn own"),
        Finding("E010", 2, 7, "own", "did you mean `neuron`?"),
        Finding("E043", 5, 59, "own"),
    ),
    case("layer in an equation", neuron("s = conv(I)"), Finding("E031", 3, 7, "conv")),
    case("statement of a block", neuron("if true { s = I }", "s = relu(I)"), Finding("E035", 3, 3, "if")),
    case(
        "requirement on a value",
        neuron("require(I < 1)", "s = relu(I)"),
        Finding("E044", 3, 3, "require(I < 1)", message="parameters alone"),
    ),
    case(
        "requirement that does not hold",
        neuron("require(tau < 1)", "s = relu(tau * I)", head="own(tau=0.5)", call="own(tau=3)"),
        Finding("E041", 6, 67, "3", "less than 1"),
    ),
    case("surrogate of two expressions", surrogate("1", "x"), Finding("E033", 4, 3, "x", message="one expression")),
    case("empty surrogate", surrogate(), Finding("E034", 2, 11, "own", "the distance from the threshold")),
    case("surrogate that reads the current", surrogate("I * x"), Finding("E030", 3, 3, "I", "`x`")),
    case(
        "surrogate with an equation", surrogate("y = x", "y"), Finding("E035", 3, 3, "y = x", "one expression of `x`")
    ),
    case("surrogate that is a comparison", surrogate("x > 0"), Finding("E044", 3, 3, "x > 0", "1 if ... else 0")),
)
