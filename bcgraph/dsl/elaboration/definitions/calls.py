"""Neurons and surrogates: from a call of a definition to its equations.

A definition is a text: parameters, states with their value before the first step, learned parameters, and equations in
order. A call gives the parameters values; what follows has numbers in their place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from bcgraph import schema
from bcgraph.dsl import syntax
from bcgraph.dsl.elaboration.definitions.body import Body
from bcgraph.dsl.elaboration.definitions.equations import CONSTANTS, Constant, Meanings
from bcgraph.dsl.elaboration.evaluate import Failed, Scope, evaluate
from bcgraph.dsl.elaboration.library import Definition, Library, Namespace
from bcgraph.dsl.elaboration.values import Parameter, bind
from bcgraph.dsl.unparse import print_definitions
from bcgraph.dsl.walk import names_in
from bcgraph.dsl.wording import show
from bcgraph.errors import Span, nearest

_Key: TypeAlias = tuple[Definition, Namespace, tuple[syntax.Argument, ...], int]


@dataclass(slots=True)
class Definitions:
    """Works out calls of neurons and surrogates."""

    library: Library
    _calls: list[Definition] = field(default_factory=list)
    # Neurons by their calls, with their bases, which have to live as long as their ids are keys.
    _made: dict[_Key, tuple[schema.Neuron, schema.Neuron | None]] = field(default_factory=dict)

    def neuron(
        self,
        call: syntax.Call,
        definition: Definition,
        scope: Scope,
        namespace: Namespace,
        base: schema.Neuron | None = None,
    ) -> schema.Neuron:
        """The neuron that a call in `namespace` means; arguments that it leaves out are those of `base`.

        Raises Failed once the reasons are reported.
        """
        key = (definition, namespace, call.arguments, id(base))
        constant = not any(name.name in scope.values for a in call.arguments for name in names_in(a.value))
        if constant and key in self._made:
            return self._made[key][0]
        before = len(scope.reporter)
        made = self._neuron(call, definition, scope, namespace, base)
        if constant and len(scope.reporter) == before:
            self._made[key] = made, base
        return made

    def _neuron(
        self,
        call: syntax.Call,
        definition: Definition,
        scope: Scope,
        namespace: Namespace,
        base: schema.Neuron | None,
    ) -> schema.Neuron:
        given = dict(base.arguments) if base is not None else {}
        values, spans, inner = self._arguments(call, definition, scope, namespace, given)
        equations = Body(self.surrogate, definition, inner, values, spans).neuron()
        source = () if definition.namespace.standard else print_definitions(call.name, definition.namespace)
        source += tuple(
            text
            for value in values.values()
            if isinstance(value, schema.Surrogate)
            for text in self._sources.get(value.name, ())
        )
        return schema.Neuron(call.name, _plain(values), equations, tuple(dict.fromkeys(source)))

    _sources: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def surrogate(self, expression: syntax.Expression, scope: Scope, namespace: Namespace) -> schema.Surrogate | None:
        """The surrogate that a call or a name means, None where there is none of that name. Raises Failed."""
        if isinstance(expression, syntax.Name):
            expression = syntax.Call(expression.name, (), name_span=expression.span, span=expression.span)
        if not isinstance(expression, syntax.Call):
            return None
        definition = self.library.definition("surrogate", expression.name, namespace)
        if definition is None:
            return None
        values, spans, inner = self._arguments(expression, definition, scope, namespace, {})
        self._calls.append(definition)
        try:
            derivative = Body(self.surrogate, definition, inner, values, spans).surrogate()
        finally:
            self._calls.pop()
        if not definition.namespace.standard:
            self._sources[expression.name] = print_definitions(expression.name, definition.namespace)
        arguments = tuple((k, v) for k, v in _plain(values) if not isinstance(v, schema.Surrogate))
        return schema.Surrogate(expression.name, arguments, derivative)

    def _arguments(
        self,
        call: syntax.Call,
        definition: Definition,
        caller: Scope,
        namespace: Namespace,
        given: Mapping[str, schema.Argument],
    ) -> tuple[dict[str, Constant], dict[str, Span], Scope]:
        """The values of the parameters, where they were written, and the scope of the definition's body."""
        text = definition.definition
        if definition in self._calls:
            raise caller.fail("E055", f"`{text.name}` calls itself", call.name_span)
        note = f"in the call of `{text.name}` at {call.span}"
        inner = Scope(
            caller.reporter,
            caller.budget,
            in_block=True,
            notes=(note, *caller.notes)[:8],
            anchor=(caller.anchor or call.name_span) if definition.namespace.standard else None,
        )
        parameters = [Parameter(p.name, None, p.default is None and p.name not in given) for p in text.parameters]
        bound, good = bind(call, parameters, caller)
        values: dict[str, Constant] = {}
        spans: dict[str, Span] = {}
        self._calls.append(definition)
        try:
            for parameter in text.parameters:
                default = self._default(parameter, definition, inner)
                try:
                    if parameter.name in bound:
                        expression = bound[parameter.name]
                        spans[parameter.name] = caller.locate(expression)[0]
                        values[parameter.name] = self._given(parameter.name, expression, default, caller, namespace)
                    elif parameter.name in given:
                        values[parameter.name] = _constant(given[parameter.name])
                    elif default is not None:
                        values[parameter.name] = default
                except Failed:
                    good = False
                    if default is not None:
                        values[parameter.name] = default
        finally:
            self._calls.pop()
        if not good:
            if len(values) == len(text.parameters):
                Body(self.surrogate, definition, inner, values, spans).requirements()
            raise Failed
        return values, spans, inner

    def _default(self, parameter: syntax.Parameter, definition: Definition, scope: Scope) -> Constant | None:
        if parameter.default is None:
            return None
        return self._value(parameter.name, parameter.default, scope, definition.namespace)

    def _value(self, name: str, expression: syntax.Expression, scope: Scope, namespace: Namespace) -> Constant:
        """A parameter's value: a number, true or false, a surrogate, or a word."""
        bound = isinstance(expression, syntax.Name) and expression.name in scope.values
        found = None if bound else self.surrogate(expression, scope, namespace)
        if found is not None:
            return found
        if isinstance(expression, syntax.Name) and not bound and expression.name not in CONSTANTS:
            return expression.name
        if isinstance(expression, syntax.Call) or (isinstance(expression, syntax.Name) and not bound):
            meaning = Meanings(scope, lambda e, s: self.surrogate(e, s, namespace)).of(expression)
            assert isinstance(meaning, bool | float | str | schema.Surrogate)
            return meaning
        value = evaluate(expression, scope)
        if isinstance(value, str):
            return self.surrogate(syntax.Name(value, span=expression.span), scope, namespace) or value
        if isinstance(value, list):
            raise scope.fail("E040", f"`{name}` needs a single value, not a list", expression)
        return value if isinstance(value, bool) else float(value)

    def _given(
        self, name: str, expression: syntax.Expression, default: Constant | None, scope: Scope, space: Namespace
    ) -> Constant:
        """The value of an argument, which has to be of the kind of the parameter's default."""
        wanted = _kind(default)
        if isinstance(default, schema.Surrogate):
            word = expression.name if isinstance(expression, syntax.Call) else None
            if isinstance(expression, syntax.Name):
                bound = scope.values.get(expression.name, expression.name)
                word = bound if isinstance(bound, str) else None
            if word is not None and self.library.definition("surrogate", word, space) is None:
                known = self.library.names("surrogate", space)
                close = nearest(word, known)
                allowed = f"allowed: {', '.join(f'`{n}`' for n in known)}"
                place = expression.name_span if isinstance(expression, syntax.Call) else expression
                hint = f"{close} ({allowed})" if close else allowed
                raise scope.fail("E043", f"`{name}` cannot be `{show(word)}`", place, hint)
        value = self._value(name, expression, scope, space)
        if default is not None and _kind(value) != wanted:
            raise scope.fail("E040", f"`{name}` needs {wanted}, not {_shown(value)}", expression)
        return value


def _kind(value: Constant | None) -> str:
    match value:
        case bool():
            return "`true` or `false`"
        case float():
            return "a number"
        case str():
            return "a word"
        case _:
            return "a surrogate"


def _shown(value: Constant) -> str:
    match value:
        case schema.Surrogate():
            return f"the surrogate `{value.name}`"
        case str():
            return f"the word `{show(value)}`"
        case _:
            return show(value)


def _constant(value: schema.Argument) -> Constant:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _plain(values: Mapping[str, Constant]) -> tuple[tuple[str, schema.Argument], ...]:
    return tuple(values.items())
