"""Every kind of thing has an entry in every table that is about it."""

import ast
import dataclasses
import inspect
from pathlib import Path
from typing import Any, get_args

import pytest
from lark import Lark
from pydantic import BaseModel

import bcgraph.dsl
from bcgraph import schema
from bcgraph.dsl import fmt, syntax, tokens, unparse, wording
from bcgraph.dsl import grammar as grammars
from bcgraph.dsl.build import Builder
from bcgraph.dsl.elaboration import evaluate, expand, kinds, values
from bcgraph.dsl.elaboration.layers import LAYERS
from bcgraph.dsl.grammar.tables import dumped
from bcgraph.dsl.parser import grammar
from bcgraph.layers import STANDARD

BLOCK_STATEMENTS = {syntax.Assign, syntax.Bare, syntax.Sum, syntax.Concat, syntax.Section, syntax.If, syntax.Repeat}


def test_every_rule_of_the_grammar_has_a_builder() -> None:
    rules = {str(rule.alias or rule.origin.name) for rule in grammar().rules if not rule.alias or rule.alias}
    named = {name for name in rules if not name.startswith("_")}
    transparent = {"statement", "target", "expression", "disjunction", "conjunction", "negation", "comparison"}
    transparent |= {"arithmetic", "term", "factor", "power", "atom"}
    assert {name for name in named - transparent if not hasattr(Builder, name)} == set()


def test_the_parse_tables_are_those_of_the_grammar() -> None:
    stored = Path(grammars.__file__).with_name("tables.json")
    assert stored.read_text(encoding="utf-8") == dumped(), f"run `python -m bcgraph.dsl.grammar.tables {stored}`"


def test_the_parse_tables_are_used_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    built = grammars.build(grammars.text())
    monkeypatch.setattr(grammars, "build", None)
    loaded = grammars.load()
    assert loaded.rules == built.rules

    def described(parser: Lark) -> list[tuple[object, ...]]:
        patterns = [(t.name, t.priority, t.pattern) for t in parser.terminals]
        return [(*rest, p.type, p.value, set(p.flags), p.min_width, p.max_width) for *rest, p in patterns]

    assert described(loaded) == described(built)


def test_parse_tables_of_another_grammar_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    other = grammars.text().replace('"repeat"', '"again"')
    monkeypatch.setattr(grammars, "text", lambda: other)
    assert "again" in [terminal.pattern.value for terminal in grammars.load().terminals]


def test_parse_tables_of_another_lark_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammars.lark, "__version__", "0")
    monkeypatch.setattr(grammars, "build", lambda *_: "built")
    assert grammars.load() == "built"


def test_every_node_says_where_it_stands() -> None:
    nodes = [c for _, c in inspect.getmembers(syntax, inspect.isclass) if issubclass(c, syntax.Node)]
    assert len(nodes) > 25
    for node in nodes:
        (span,) = (f for f in dataclasses.fields(node) if f.name == "span")
        assert not span.compare
        assert node.__dataclass_params__.frozen


def test_expressions() -> None:
    every = set(get_args(syntax.Expression))
    assert set(evaluate._RULES) == every


def test_statements() -> None:
    assert set(expand._STATEMENTS) == BLOCK_STATEMENTS
    assert set(unparse._STATEMENTS) == BLOCK_STATEMENTS | {syntax.Branch, syntax.Formula, syntax.Declaration}


def test_kinds() -> None:
    assert set(values._RULES) == set(get_args(kinds.Kind))


def test_layers() -> None:
    union = get_args(get_args(schema.LayerNode)[0])
    made = {option for layer in union for option in get_args(kinds.fields(layer)["kind"].annotation)}
    joins = {"sum", "concat", "mul"}
    assert set(LAYERS) == made - {*joins, "neuron", "registered", "standard"} | {"tdbn", "tebn"} | set(STANDARD)


def test_keywords_are_those_of_the_grammar() -> None:
    words = {str(t.pattern.value) for t in grammar().terminals if t.pattern.type == "str" and t.pattern.value.isalpha()}
    assert words == set(wording.KEYWORDS)


def test_token_types_mentioned_in_code_exist() -> None:
    known = {t.name for t in grammar().terminals}
    mentioned = set(tokens.OPENERS) | set(tokens.CLOSERS) | fmt._TIGHT_AFTER | fmt._TIGHT_BEFORE | fmt._OPERANDS
    assert mentioned <= known


MODELS: list[Any] = [
    c
    for _, c in inspect.getmembers(schema, inspect.isclass)
    if (issubclass(c, BaseModel) or hasattr(c, "__pydantic_fields__"))
    and c.__module__ == schema.__name__
    and not c.__name__.startswith("_")
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_setting_of_the_schema_has_a_kind_and_a_description(model: type) -> None:
    skipped = {"name", "span", "kind", "body", "branches", "ports", "call", "arguments", "backward", "backbone", "uses"}
    skipped |= {"forward", "bodies", "read"} | ({"size"} if model is schema.Resize else set())
    # What neurons and surrogates take stands in their own texts.
    skipped |= {"neuron", "equations", "derivative", "source"}
    for name, field in kinds.fields(model).items():
        if name not in skipped and kinds.section(field.annotation) is None:
            assert kinds.describe(kinds.kind_of(field))


def test_nothing_of_the_language_imports_torch() -> None:
    for path in Path(bcgraph.dsl.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] in ("torch", "numpy") for name in names), path
            assert not any(n.startswith(("bcgraph.compiler", "bcgraph.data", "bcgraph.search")) for n in names), path


def test_public_names() -> None:
    assert bcgraph.dsl.__all__ == ["format_spec", "format_text", "load", "neuron", "parse"]
    for name in bcgraph.dsl.__all__:
        assert getattr(bcgraph.dsl, name).__doc__
