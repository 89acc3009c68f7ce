"""Looking over blocks without expanding them, so that what is never called, or stands in a branch not taken, is no
place for mistakes to hide."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace

from bcgraph.dsl import syntax
from bcgraph.dsl.elaboration import kinds
from bcgraph.dsl.elaboration.definitions.body import REQUIRE
from bcgraph.dsl.elaboration.definitions.calls import Definitions
from bcgraph.dsl.elaboration.evaluate import INPUT, Failed, Scope, Value, unknown_name
from bcgraph.dsl.elaboration.frames import misplaced, no_word, words
from bcgraph.dsl.elaboration.library import NEURON, Definition, Namespace
from bcgraph.dsl.elaboration.values import Parameter, bind, convert, parameters_of
from bcgraph.dsl.walk import expressions_of, names_in

_NO_WORDS: frozenset[str] = frozenset()


def check_blocks(namespace: Namespace, definitions: Definitions, scope: Scope) -> None:
    """Report what can be known to be wrong with the blocks of a namespace before they are called.

    These are unknown names (E030), unknown layers and blocks (E031), wrong arguments (E042), statements out of place
    (E035), and constant arguments of layers that are out of their range (E040 to E043).
    """
    for definition in list(namespace.definitions.values()):
        if definition.kind != "block":
            _definition(definition, definitions, scope, namespace)
            continue
        values: dict[str, Value] = {}
        inner = replace(scope, in_block=True, values=values)
        for parameter in definition.block.parameters:
            if parameter.default is not None:
                _names(parameter.default, inner, words(definition, definitions.library))
            values[parameter.name] = 0
        _body(definition.block.body, definition, definitions, inner)


def _definition(definition: Definition, definitions: Definitions, scope: Scope, namespace: Namespace) -> None:
    """A neuron or a surrogate with its defaults; one that lacks some is looked at when it is called."""
    text = definition.definition
    if any(parameter.default is None for parameter in text.parameters):
        return
    call = syntax.Call(text.name, (), name_span=text.name_span, span=text.name_span)
    with contextlib.suppress(Failed):
        if definition.kind == "neuron":
            definitions.neuron(call, definition, scope, namespace)
        else:
            definitions.surrogate(call, scope, namespace)


def _body(body: tuple[syntax.Statement, ...], definition: Definition, definitions: Definitions, scope: Scope) -> None:
    for statement in body:
        match statement:
            case syntax.Assign(target=target, value=value):
                if isinstance(target, syntax.Computed):
                    _names(target.value, scope, _NO_WORDS)
                if isinstance(value, syntax.Call):
                    _call(value, definition, definitions, scope)
            case syntax.Bare(call=call) if call.name == REQUIRE and REQUIRE not in definition.namespace.definitions:
                for argument in call.arguments:
                    _names(argument, scope, words(definition, definitions.library))
            case syntax.Bare(call=call):
                _call(call, definition, definitions, scope)
            case syntax.Sum() | syntax.Concat() | syntax.Section(name="mul"):
                for branch in statement.body:
                    if isinstance(branch, syntax.Branch):
                        if branch.test is not None:
                            _names(branch.test, scope, _NO_WORDS)
                        _body(branch.body, definition, definitions, scope)
            case syntax.If():
                _names(statement.test, scope, _NO_WORDS)
                _body(statement.then, definition, definitions, scope)
                _body(statement.otherwise, definition, definitions, scope)
            case syntax.Repeat():
                for expression in expressions_of(statement.values):
                    _names(expression, scope, _NO_WORDS)
                values = {**scope.values, statement.variable: 0}
                _body(statement.body, definition, definitions, replace(scope, values=values))
            case _:
                misplaced(statement, scope)


def _call(call: syntax.Call, definition: Definition, definitions: Definitions, scope: Scope) -> None:
    library = definitions.library
    try:
        layer = library.built_in(call.name, definition.namespace) or library.registered(
            call, definition.namespace, scope
        )
    except Failed:
        return
    if layer is not None:
        _arguments(call, layer.parameters, scope)
        return
    if call.name == NEURON and NEURON not in definition.namespace.definitions:
        return
    try:
        callee = library.require(call, definition.namespace, scope)
    except Failed:
        return
    if callee.kind == "neuron":
        _constants(call, callee, definitions, scope, definition.namespace)
        return
    parameters = [Parameter(p.name, None, p.default is None) for p in callee.text.parameters]
    bound, _ = bind(call, parameters, scope)
    known = words(callee, library)
    for name, value in bound.items():
        if no_word(value, scope, name, callee, known) is None:
            _names(value, scope, known)


def _constants(
    call: syntax.Call, callee: Definition, definitions: Definitions, scope: Scope, namespace: Namespace
) -> None:
    """A neuron in a block: its arguments that no parameter of the block decides."""
    kept = tuple(a for a in call.arguments if not any(n.name in scope.values for n in names_in(a.value)))
    required = any(p.default is None for p in callee.text.parameters)
    # An argument by position means another one where one before it is left out.
    if (len(kept) < len(call.arguments) and any(a.name is None for a in kept)) or required:
        return
    with contextlib.suppress(Failed):
        definitions.neuron(replace(call, arguments=kept), callee, scope, namespace)


def _arguments(call: syntax.Call, parameters: tuple[Parameter, ...], scope: Scope) -> None:
    bound, _ = bind(call, parameters, scope)
    for parameter in parameters:
        value = bound.get(parameter.name)
        kind = parameter.kind
        if value is None or kind is None:
            continue
        options: Mapping[str, type] = dict(kind.options) if isinstance(kind, kinds.Called) else {}
        if isinstance(value, syntax.Call) and value.name in options:
            _arguments(value, parameters_of(options[value.name]), scope)
        elif any(isinstance(n, syntax.Dotted) or n.name in scope.values for n in names_in(value)):
            _names(value, scope, frozenset(kind.options) if isinstance(kind, kinds.Word) else _NO_WORDS)
        else:
            try:
                convert(value, kind, scope, f"`{parameter.name}`")
            except Failed:
                continue


def _names(expression: syntax.Expression | syntax.Argument, scope: Scope, words: frozenset[str]) -> None:
    inner = expression.value if isinstance(expression, syntax.Argument) else expression
    for name in names_in(inner):
        known = name.name in INPUT if isinstance(name, syntax.Dotted) else name.name in scope.values
        if not known and name.name not in words:
            unknown_name(name, scope, words)
