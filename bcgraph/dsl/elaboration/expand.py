"""From blocks to the tree of layers: calls become what they call, conditions are decided, repetitions rolled out.

Shapes are inferred on the way, so that a layer that does not fit is reported where it stands, and a network that would
be too large is refused before it is built.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from bcgraph import schema, shapes
from bcgraph.dsl import syntax
from bcgraph.dsl.elaboration.definitions.body import REQUIRE
from bcgraph.dsl.elaboration.definitions.calls import Definitions
from bcgraph.dsl.elaboration.evaluate import Failed, Scope, Value, truth
from bcgraph.dsl.elaboration.frames import (
    Frame,
    check_name,
    misplaced,
    repetitions,
    requirement,
    scalar,
    single,
    target_name,
    words,
)
from bcgraph.dsl.elaboration.layers import Defaults, Layer, check_place, check_threshold
from bcgraph.dsl.elaboration.library import NEURON, Definition, Library
from bcgraph.dsl.elaboration.sizes import Budget, Size
from bcgraph.dsl.elaboration.values import Parameter, bind, build, convert_all
from bcgraph.dsl.source import Reporter
from bcgraph.dsl.walk import statements_of
from bcgraph.dsl.wording import statement_name
from bcgraph.errors import Span, SpecError
from bcgraph.schema.values import Scalar
from bcgraph.shapes import Shape

_MAX_NOTES = 8
_COST_OF_CALL = 30
_COST_OF_STATEMENT = 5

PRODUCT = "mul"
"""The word before branches that are multiplied."""

Nodes: TypeAlias = list[schema.LayerNode]


@dataclass(slots=True)
class Expander:
    """Expands one network. `complete` turns false when layers may be missing because of an error."""

    reporter: Reporter
    library: Library
    definitions: Definitions
    defaults: Defaults
    network_neuron: Definition | None
    size: Size
    budget: Budget
    complete: bool = True
    ports: list[tuple[str, Shape | None]] = field(default_factory=list)

    def call(
        self,
        call: syntax.Call,
        caller: Scope,
        definition: Definition,
        shape: Shape | None,
        outer: Frame | None = None,
        prefix: str = "",
    ) -> tuple[Nodes, Shape | None, tuple[tuple[str, Scalar], ...]]:
        """What a call of a block becomes: its layers, the shape after them, and its arguments by name.

        Raises Failed when the arguments are wrong.
        """
        block = definition.block
        calls = outer.calls if outer is not None else ()
        if definition in calls:
            cycle = [*(d.block.name for d in calls[calls.index(definition) :]), block.name]
            raise caller.fail(
                "E055", f"`{block.name}` calls itself: {' -> '.join(cycle)}", call.name_span, "use `repeat`"
            )
        self.budget.spend(call.span, _COST_OF_CALL)
        note = f"in the call of `{block.name}` at {call.span}"
        values: dict[str, Value] = {}
        origins: dict[str, Span] = {}
        scope = Scope(
            self.reporter,
            self.budget,
            in_block=True,
            values=values,
            shape=shape,
            notes=(note, *caller.notes)[:_MAX_NOTES],
            anchor=(caller.anchor or call.name_span) if definition.namespace.standard else None,
            origins=origins,
        )
        self._arguments(call, definition, caller, scope, values, origins)
        reserved = frozenset(
            s.target.name
            for s in statements_of(block.body)
            if isinstance(s, syntax.Assign) and isinstance(s.target, syntax.Name)
        )
        level = outer.level if outer is not None else 0
        frame = Frame(definition, scope, prefix, (*calls, definition), {}, reserved, {}, level)
        self._check_requirements(frame)
        nodes, after = self._body(block.body, frame.deeper(call.span), shape)
        return nodes, after, tuple((p.name, scalar(values[p.name])) for p in block.parameters)

    def _check_requirements(self, frame: Frame) -> None:
        """Raise Failed where an argument is not what the block requires: nothing in it would mean anything then."""
        if REQUIRE in frame.definition.namespace.definitions:
            return
        good = True
        for statement in frame.definition.block.body:
            if isinstance(statement, syntax.Bare) and statement.call.name == REQUIRE:
                try:
                    requirement(statement.call, frame, self.library)
                except Failed:
                    good = False
        if not good:
            raise Failed

    def _arguments(
        self,
        call: syntax.Call,
        definition: Definition,
        caller: Scope,
        scope: Scope,
        values: dict[str, Value],
        origins: dict[str, Span],
    ) -> None:
        """Fill `values` with the block's parameters, and `origins` with where the user wrote them."""
        block, known = definition.block, words(definition, self.library)
        parameters = [Parameter(p.name, None, p.default is None) for p in block.parameters]
        bound, good = bind(call, parameters, caller)
        for parameter in block.parameters:
            try:
                if parameter.name in bound:
                    value = single(bound[parameter.name], caller, parameter.name, definition, known)
                    origin = caller.origin(bound[parameter.name])
                    if origin is not None:
                        origins[parameter.name] = origin
                elif parameter.default is not None:
                    value = single(parameter.default, scope, parameter.name, definition, known)
                else:
                    continue
                values[parameter.name] = value
            except Failed:
                good = False
        if not good:
            raise Failed

    def _body(
        self, body: tuple[syntax.Statement, ...], frame: Frame, shape: Shape | None
    ) -> tuple[Nodes, Shape | None]:
        nodes: Nodes = []
        for statement in body:
            self.budget.spend(statement.span, _COST_OF_STATEMENT)
            rule = _STATEMENTS.get(type(statement))
            if rule is None:
                misplaced(statement, frame.scope)
                continue
            try:
                more, shape = rule(self, statement, frame, shape)
                nodes += more
            except Failed:
                self.complete = False
                shape = None
        return nodes, shape

    # Statements.

    def _assign(self, statement: syntax.Assign, frame: Frame, shape: Shape | None) -> tuple[Nodes, Shape | None]:
        call = statement.value
        if not isinstance(call, syntax.Call):
            raise frame.scope.fail(
                "E035", "a layer or a block is expected here", call.span, "write `name = conv(...)`, for example"
            )
        name = target_name(statement.target, frame.scope)
        earlier = frame.used.get(name)
        if earlier is not None:
            again = earlier == statement.target.span
            hint = "in a repetition, write `[i] = ...`" if again else f"the first is at {earlier}"
            frame.scope.fail("E033", f"`{name}` is defined twice in this block", statement.target.span, hint)
        frame.used.setdefault(name, statement.target.span)
        layer = self.library.built_in(call.name, frame.definition.namespace)
        if layer is not None:
            return self._layer(layer, call, frame.prefix + name, frame, shape)
        if (neuron := self._neuron_of(call, frame)) is not None:
            return self._neuron(call, frame.prefix + name, neuron, frame, shape)
        layer = self.library.registered(call, frame.definition.namespace, frame.scope)
        if layer is not None:
            return self._layer(layer, call, frame.prefix + name, frame, shape)
        definition = self.library.require(call, frame.definition.namespace, frame.scope)
        nodes, after, _ = self.call(call, frame.scope, definition, shape, frame, f"{frame.prefix}{name}.")
        return nodes, after

    def _bare(self, statement: syntax.Bare, frame: Frame, shape: Shape | None) -> tuple[Nodes, Shape | None]:
        call = statement.call
        namespace = frame.definition.namespace
        if call.name == REQUIRE and REQUIRE not in namespace.definitions:
            # Those of the block itself hold by now; this may be one in a branch.
            requirement(call, frame, self.library)
            return [], shape
        layer = self.library.built_in(call.name, namespace) or self.library.registered(call, namespace, frame.scope)
        if layer is None or layer.named:
            if layer is None and call.name != NEURON:
                self.library.require(call, frame.definition.namespace, frame.scope)
            frame.scope.fail("E034", f"`{call.name}` needs a name", call.name_span, f"write `name = {call.name}(...)`")
            if layer is None:
                raise Failed
        return self._layer(layer, call, frame.prefix + frame.unique(call.name, call.span), frame, shape)

    def _layer(
        self, layer: Layer, call: syntax.Call, name: str, frame: Frame, shape: Shape | None
    ) -> tuple[Nodes, Shape | None]:
        if layer.named:
            check_name(name, call, frame.scope)
        check_threshold(layer, call, self.defaults, frame.scope)
        check_place(layer, call, self.defaults, frame.scope)

        def make(values: Mapping[str, Any]) -> schema.LayerNode:
            return layer.make(name, call.span, values, self.defaults)

        try:
            values, spans = convert_all(call, layer.parameters, frame.scope)
            node = build(make, {"values": values}, spans, call.span, frame.scope)
        except Failed:
            # A layer of the right kind stands in for the broken one: later statements may refer to it.
            if any(p.required for p in layer.parameters):
                return [], None
            node = make(values={})
        after = self._infer(node, frame, shape)
        self._count(node, shape, after, frame)
        return [node], after

    def _neuron_of(self, call: syntax.Call, frame: Frame) -> Definition | str | None:
        """The definition of the neuron that a call means, `neuron` for the network's own, None for anything else."""
        namespace = frame.definition.namespace
        if call.name == NEURON and NEURON not in namespace.definitions:
            return NEURON
        if self.library.find(call.name, namespace) is not None:
            return None
        return self.library.definition("neuron", call.name, namespace)

    def _neuron(
        self, call: syntax.Call, name: str, definition: Definition | str, frame: Frame, shape: Shape | None
    ) -> tuple[Nodes, Shape | None]:
        """A layer of neurons. What its call leaves out is what the network's neuron has, if that is one of its kind."""
        network = self.defaults.neuron
        self.ports.append((name, shape))
        self.budget.spend(call.span, _COST_OF_CALL)
        if isinstance(definition, str):
            if network is None:
                raise Failed
            if not call.arguments:
                neuron = network
            else:
                assert self.network_neuron is not None
                neuron = self.definitions.neuron(
                    replace(call, name=network.name),
                    self.network_neuron,
                    frame.scope,
                    frame.definition.namespace,
                    network,
                )
        else:
            alike = network is not None and network.name == call.name and definition.text is self.text_of_network
            if alike and not call.arguments:
                assert network is not None
                neuron = network
            else:
                neuron = self.definitions.neuron(
                    call, definition, frame.scope, frame.definition.namespace, network if alike else None
                )
        if neuron.equations.learned:
            check_name(name, call, frame.scope)
        node = schema.NeuronLayer(name=name, span=call.span, neuron=neuron)
        self._count(node, shape, shape, frame)
        return [node], shape

    @property
    def text_of_network(self) -> syntax.Definition | None:
        """The definition of the network's own neuron."""
        return None if self.network_neuron is None else self.network_neuron.definition

    def _sum(self, statement: syntax.Sum, frame: Frame, shape: Shape | None) -> tuple[Nodes, Shape | None]:
        return self._join(statement, "sum", schema.Sum, frame, shape)

    def _concat(self, statement: syntax.Concat, frame: Frame, shape: Shape | None) -> tuple[Nodes, Shape | None]:
        return self._join(statement, "concat", schema.Concat, frame, shape)

    def _section(self, statement: syntax.Section, frame: Frame, shape: Shape | None) -> tuple[Nodes, Shape | None]:
        # `mul` is a word here alone, so it stays free as a name everywhere else.
        if statement.name == PRODUCT:
            return self._join(statement, PRODUCT, schema.Product, frame, shape)
        misplaced(statement, frame.scope)
        return [], shape

    def _join(
        self,
        statement: syntax.Sum | syntax.Concat | syntax.Section,
        kind: str,
        make: Callable[..., schema.LayerNode],
        frame: Frame,
        shape: Shape | None,
    ) -> tuple[Nodes, Shape | None]:
        branches: list[Nodes] = []
        after: list[Shape | None] = []
        for branch in statement.body:
            if not isinstance(branch, syntax.Branch):
                hint = f"inside `{kind}` stand only branches: `branch {{ ... }}`"
                frame.scope.fail(
                    "E035", f"{statement_name(branch)} does not belong directly in `{kind}`", branch.span, hint
                )
                self.complete = False
                continue
            if branch.test is not None and not truth(branch.test, frame.scope, "`branch if`"):
                continue
            nodes, shape_after = self._body(branch.body, frame.deeper(branch.span), shape)
            branches.append(nodes)
            after.append(shape_after)
        if not branches:
            return [], shape
        if len(branches) == 1:
            return branches[0], after[0]
        name = frame.prefix + frame.unique(kind, statement.span)
        node = make(name=name, span=statement.span, branches=tuple(tuple(nodes) for nodes in branches))
        if any(b is None for b in after):
            return [node], None
        result = self._infer(node, frame, shape)
        self._count(node, shape, result, frame)
        return [node], result

    def _if(self, statement: syntax.If, frame: Frame, shape: Shape | None) -> tuple[Nodes, Shape | None]:
        # A chain of `else if` is one level, however long.
        while not truth(statement.test, frame.scope, "`if`"):
            match statement.otherwise:
                case (syntax.If() as following,):
                    statement = following
                case otherwise:
                    return self._body(otherwise, frame.deeper(statement.span), shape)
        return self._body(statement.then, frame.deeper(statement.span), shape)

    def _repeat(self, statement: syntax.Repeat, frame: Frame, shape: Shape | None) -> tuple[Nodes, Shape | None]:
        if statement.variable in frame.scope.values:
            frame.scope.fail("E033", f"`{statement.variable}` already has a meaning here", statement.span)
        nodes: Nodes = []
        inner = frame.deeper(statement.span)
        for index in repetitions(statement.values, frame.scope):
            self.budget.spend(statement.span, _COST_OF_STATEMENT)
            values = {**frame.scope.values, statement.variable: index}
            more, shape = self._body(statement.body, replace(inner, scope=replace(frame.scope, values=values)), shape)
            nodes += more
        return nodes, shape

    # Parts of statements.

    def _infer(self, node: schema.LayerNode, frame: Frame, shape: Shape | None) -> Shape | None:
        if shape is None:
            return None
        try:
            return shapes.infer(node, shape)
        except SpecError as error:
            for d in error.diagnostics:
                frame.scope.fail(d.code, d.message, d.span or syntax.NOWHERE, d.hint)
            return None

    def _count(self, node: schema.LayerNode, shape: Shape | None, after: Shape | None, frame: Frame) -> None:
        parameters = shapes.parameters(node, shape) if shape is not None and after is not None else 0
        activations = math.prod(after) if after is not None else 0
        span, notes = frame.scope.locate(node.span or syntax.NOWHERE)
        self.size.add(1, parameters, activations, span, notes)


_STATEMENTS: Mapping[type, Callable[[Expander, Any, Frame, Shape | None], tuple[Nodes, Shape | None]]] = {
    syntax.Assign: Expander._assign,
    syntax.Bare: Expander._bare,
    syntax.Sum: Expander._sum,
    syntax.Concat: Expander._concat,
    syntax.Section: Expander._section,
    syntax.If: Expander._if,
    syntax.Repeat: Expander._repeat,
}
