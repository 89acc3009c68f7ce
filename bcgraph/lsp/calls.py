"""What calls may be given: of layers, definitions, and of what settings take. Read off their declarations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bcgraph import schema
from bcgraph.dsl.elaboration import kinds
from bcgraph.dsl.elaboration.frames import words_of
from bcgraph.dsl.elaboration.layers import LAYERS
from bcgraph.dsl.elaboration.library import NEURON
from bcgraph.dsl.elaboration.settings import DATA_SETS
from bcgraph.dsl.elaboration.values import Parameter, parameters_of
from bcgraph.dsl.elaboration.vocabulary.places import places
from bcgraph.lsp.reading import Reading
from bcgraph.lsp.symbols import definition_of


def parameters_of_call(name: str, reading: Reading) -> Sequence[Parameter] | None:
    """The parameters of what a call means: a definition, a layer, or what a setting takes; None where unknown."""
    definition = definition_of(name, reading)
    if definition is not None:
        return [Parameter(p.name, None, p.default is None) for p in definition.text.parameters]
    if name == NEURON and reading.understood.spec is not None:
        found = definition_of(reading.understood.spec.neuron.name, reading)
        return [] if found is None else [Parameter(p.name, None, False) for p in found.text.parameters]
    if name in LAYERS and name not in _models():
        return LAYERS[name].parameters
    if name in DATA_SETS:
        return [p for p in parameters_of(schema.DataSpec) if p.name != "name"]
    model = _models().get(name)
    if model is not None:
        return parameters_of(model)
    return LAYERS[name].parameters if name in LAYERS else None


def words_of_argument(call: str, name: str, reading: Reading) -> tuple[str, ...]:
    """The words that an argument of a call may be, by what the definition compares it with."""
    if call == NEURON and reading.understood.spec is not None:
        call = reading.understood.spec.neuron.name
    definition = definition_of(call, reading)
    return () if definition is None else words_of(name, definition)


def _models() -> dict[str, type]:
    """What settings take by a call, by the name of the call."""
    return dict(option for kind in _kinds() for option in kind.options)


def _kinds() -> Iterator[kinds.Called]:
    for place in places().values():
        yield from (s.kind for s in place.settings.values() if isinstance(s.kind, kinds.Called))
    yield kinds.Called((("project", schema.Projection),))
