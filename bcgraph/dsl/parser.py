"""From tokens to the syntax tree, continuing after each error to find the next one.

Parsing is LALR with lark's tables. At the start of each statement the parser's stack is remembered; an error throws
the statement away, goes back to that stack, and takes up again at the next statement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

from lark import Lark
from lark.exceptions import UnexpectedToken
from lark.parsers.lalr_analysis import Shift
from lark.parsers.lalr_interactive_parser import InteractiveParser

from bcgraph.dsl import habits, syntax
from bcgraph.dsl.build import Builder
from bcgraph.dsl.expected import explain
from bcgraph.dsl.source import Reporter, Source
from bcgraph.dsl.tokens import CLOSERS, MAX_DEPTH, OPENERS, Lexeme, lark, tokenize
from bcgraph.dsl.walk import bodies, deeper_than, heads
from bcgraph.dsl.wording import LINKS
from bcgraph.errors import Span

END = "$END"
"""The kind of token that lark puts after the last one."""


def _accepts(parser: InteractiveParser) -> set[str]:
    """The kinds of token that `parser` takes next: `parser.accepts()`, by its states alone and without copies."""
    state = parser.parser_state
    states, end = state.parse_conf.states, state.parse_conf.end_state

    def takes(kind: str) -> bool:
        stack = list(state.state_stack)
        while (found := states[stack[-1]].get(kind)) is not None:
            action, target = found
            if action is Shift:
                return True
            del stack[len(stack) - len(target.expansion) :]
            stack.append(states[stack[-1]][target.origin.name][1])
            if kind == END and stack[-1] == end:
                return True
        return False

    return {kind for kind in states[state.state_stack[-1]] if kind.isupper() and takes(kind)}


@cache
def grammar() -> Lark:
    """The grammar with the builder of the syntax tree."""
    return lark(Builder())


def parse_file(source: Source, reporter: Reporter) -> syntax.File:
    """The syntax tree of a text; what is wrong with it goes to `reporter`.

    Statements with errors are left out of the tree. Raises `Stop` when no tree can be made, because braces do not
    match (E011) or a limit is passed.
    """
    reporter.sources.setdefault(source.file, source)
    tokens = tokenize(grammar(), source, reporter)
    file = _Parse(source, tokens, reporter).run()
    _check_depth(file, reporter)
    return file


def _check_depth(file: syntax.File, reporter: Reporter) -> None:
    """Stop where the tree is too deep (E004); after this, it may be walked by recursion."""
    pending: list[tuple[syntax.Statement, int]] = [(statement, 0) for statement in file.statements]
    while pending:
        statement, depth = pending.pop()
        if depth > MAX_DEPTH:
            reporter.stop("E004", f"this is nested more than {MAX_DEPTH} levels deep", statement.span)
        pending.extend((inner, depth + 1) for body in bodies(statement) for inner in body)
        for expression in heads(statement):
            deep = deeper_than(MAX_DEPTH, expression)
            if deep is not None:
                reporter.stop(
                    "E004", f"this expression is nested more than {MAX_DEPTH} levels deep", deep.span, "split it up"
                )


def _finish(parser: InteractiveParser) -> syntax.File:
    return cast(syntax.File, parser.feed_eof())  # type: ignore[no-untyped-call]


# Kinds of token that can begin a statement.
_STARTS = frozenset(
    ("NAME", "INT", "LSQB", "BCG", "IMPORT", "BLOCK", "NETWORK", "BACKWARD", "SUM", "CONCAT", "BRANCH", "IF", "REPEAT")
)


# What begins a value and no statement, and what goes on with a value.
_VALUES = frozenset(("FLOAT", "STRING", "TRUE", "FALSE", "NOT", "MINUS", "LPAR", "DOTTED"))
_OPERATORS = frozenset(("OR", "AND", "COMPARE", "PLUS", "MINUS", "TIMES", "POWER", "IF"))
# What follows the first word or number of a statement that is no expression.
_AFTER_FIRST: Mapping[str, frozenset[str]] = {
    "NAME": frozenset(("ASSIGN", "LPAR", "LBRACE")),
    "INT": frozenset(("ASSIGN",)),
}

# The words that begin a definition or a part of one, by what follows them. Everywhere else they are names.
_FOLLOWING = {
    "NAME": ("neuron", "surrogate", "state", "learn", *LINKS),
    "LSQB": ("learn", "state"),
    "STRING": ("use",),
    **dict.fromkeys(("AT", "DOTTED", "INT", "FLOAT"), LINKS),
}

# Tokens of a statement that may be read again.
_MAX_READ_AGAIN = 1_000

# The sections whose statements are expressions.
_OF_FORMULAS = ("surrogate", "subject_to")


@dataclass(slots=True)
class _Parse:
    """One parse. `starts` holds the parser's stack at the start of the statement being read, and of those around it."""

    source: Source
    tokens: list[Lexeme]
    reporter: Reporter
    parser: InteractiveParser = field(default_factory=lambda: grammar().parse_interactive())
    position: int = 0
    brackets: list[Lexeme] = field(default_factory=list)
    statement: list[Lexeme] = field(default_factory=list)
    # Where the statement begins among the tokens.
    first: int = 0
    starts: list[tuple[list[Any], list[Any]]] = field(default_factory=list)
    # For each body that is being read, whether it is one of formulas.
    formulas: list[bool] = field(default_factory=lambda: [False])
    # Between an error and the next line, further errors say nothing new.
    quiet: bool = False
    # The first brace whose partner stands further left than its own line: the one between them may be missing.
    suspect: Lexeme | None = None

    def run(self) -> syntax.File:
        self.starts.append(self._stack())
        while self.position < len(self.tokens):
            token = self.tokens[self.position]
            kind = token.type
            if kind == "COMMENT" or (kind == "NEWLINE" and self._in_parentheses()):
                self.position += 1
            elif kind == "RBRACE" and len(self.starts) == 1 and not self._in_parentheses():
                self.reporter.add("E010", "this `}` closes nothing", token.span)
                self.position += 1
            else:
                self._feed(token)
        if self.quiet and self._in_parentheses():
            self._leave_parentheses()
            self._go_back()
        if self.brackets:
            bracket = self.suspect or self.brackets[0]
            self.reporter.stop("E011", f"this `{bracket}` is never closed", bracket.span, _add(bracket))
        unfinished = self._is_first_alone()
        try:
            if not unfinished:
                return _finish(self.parser)
        except UnexpectedToken:
            unfinished = True
        if unfinished:
            line, column = len(self.source.lines), len(self.source.lines[-1]) + 1
            end = Span(self.source.file, line, column, line, column + 1)
            _, hint = explain(self._accepted(), None, self.statement)
            self.reporter.add("E011", "the text ends in the middle of a statement", end, hint)
            self._go_back()
        return _finish(self.parser)

    def _feed(self, token: Lexeme) -> None:
        """Give a token to the parser, and keep the books about brackets and statements."""
        if self._is_formula(token):
            self._recover(token)
            return
        try:
            self.parser.feed_token(token)
        except UnexpectedToken:
            self._recover(token)
            return
        if not self.statement:
            self.first = self.position
        self.position += 1
        kind = token.type
        if kind == "STRING" and token.broken:
            # The rest of the line went into the string; what is missing there is no finding of its own.
            self.quiet = True
        if kind in OPENERS:
            self.brackets.append(token)
        elif kind in CLOSERS:
            self._compare(self.brackets.pop(), token)
        if kind == "LBRACE":
            self.starts.append(self._stack())
            self.formulas.append(bool(self.statement) and str(self.statement[0]) in _OF_FORMULAS)
        elif kind == "RBRACE":
            self.starts.pop()
            self.formulas.pop()
        elif kind in ("NEWLINE", "SEMICOLON"):
            self.starts[-1] = self._stack()
            self.quiet = self.quiet and kind != "NEWLINE"
        else:
            self.statement.append(token)
            return
        self.statement.clear()
        if kind == "RBRACE":
            self.statement.append(token)

    def _is_formula(self, token: Lexeme) -> bool:
        """Whether `token` makes an expression of the statement, which only a body of formulas may hold."""
        if self.formulas[-1] or self._in_parentheses():
            return False
        if not self.statement:
            return token.type in _VALUES
        first = self.statement[0]
        if len(self.statement) == 1 and first.type in _AFTER_FIRST:
            words = _FOLLOWING.get(token.type, ())
            return token.type not in _AFTER_FIRST[first.type] and not (first.type == "NAME" and str(first) in words)
        called = len(self.statement) > 2 and first.type == "NAME" and self.statement[1].type == "LPAR"
        return called and token.type in _OPERATORS and "ASSIGN" not in self._outside()

    def _is_first_alone(self) -> bool:
        """Whether the statement is one word or number, which only a body of formulas may hold."""
        return len(self.statement) == 1 and self.statement[0].type in _AFTER_FIRST and not self.formulas[-1]

    def _outside(self) -> list[str]:
        """The kinds of the statement's tokens that stand in no parentheses."""
        depth = 0
        found: list[str] = []
        for each in self.statement:
            depth -= each.type in ("RPAR", "RSQB")
            if depth == 0:
                found.append(each.type)
            depth += each.type in ("LPAR", "LSQB")
        return found

    def _accepted(self) -> set[str]:
        """The kinds of token that may come next."""
        accepted = _accepts(self.parser)
        if self.formulas[-1] or self._in_parentheses():
            return accepted
        if not self.statement:
            return accepted - _VALUES
        first = self.statement[0].type
        if len(self.statement) == 1 and first in _AFTER_FIRST:
            return accepted & _AFTER_FIRST[first]
        called = len(self.statement) > 2 and first == "NAME" and self.statement[1].type == "LPAR"
        return accepted - _OPERATORS if called else accepted

    def _compare(self, opener: Lexeme, closer: Lexeme) -> None:
        """Suspect a brace that is closed by one that stands at the beginning of a line, further left."""
        line = self.source.lines[opener.span.line - 1]
        indent = len(line) - len(line.lstrip())
        before = self.source.lines[closer.span.line - 1][: closer.span.column - 1]
        if self.suspect is None and not before.strip() and len(before) < indent:
            self.suspect = opener

    def _stack(self) -> tuple[list[Any], list[Any]]:
        state = self.parser.parser_state
        return list(state.state_stack), list(state.value_stack)

    def _go_back(self) -> None:
        """Forget the statement that was being read."""
        state = self.parser.parser_state
        state.state_stack[:], state.value_stack[:] = self.starts[-1]
        self.statement.clear()

    def _in_parentheses(self) -> bool:
        return bool(self.brackets) and self.brackets[-1].type != "LBRACE"

    def _recover(self, token: Lexeme) -> None:
        """Report the error and move to the next statement."""
        if not self.quiet and self._understood():
            return
        opener = self.brackets[-1] if self._in_parentheses() else None
        starts_line = self.position == 0 or self.tokens[self.position - 1].type in ("NEWLINE", "COMMENT")
        if opener is not None and starts_line:
            self._report(f"this `{opener}` is never closed", opener.span, _add(opener))
            self._leave_parentheses()
            self._go_back()
            return
        message, hint = explain(self._accepted(), token, self.statement)
        self._report(message, token.span, hint)
        if opener is None and token.type in _STARTS and self._end_statement(token):
            return
        inside = self._parenthesis_depth()
        self._leave_parentheses()
        self._go_back()
        end = self._closing(inside)
        if end is not None:
            self.position = end + 1
        self._skip_statement()

    def _understood(self) -> bool:
        """Report a habit of another language where the error is one, and read what was meant in its place."""
        first = self.first if self.statement else self.position
        if self.position - first > _MAX_READ_AGAIN:
            return False
        accepted = frozenset(self._accepted())
        habit = habits.find(habits.Place(self.tokens, first, self.position, accepted))
        after_body = bool(self.statement) and self.statement[0].type == "RBRACE"
        if habit is None or (after_body and habit.start < self.position):
            return False
        self.reporter.add("E010", habit.message, habit.span, habit.hint)
        self.tokens[habit.start : habit.end] = habit.tokens
        if habit.start < self.position:
            self._leave_parentheses()
            self._go_back()
            self.position = first
        return True

    def _report(self, message: str, span: Span, hint: str | None) -> None:
        if not self.quiet:
            self.reporter.add("E010", message, span, hint)

    def _end_statement(self, token: Lexeme) -> bool:
        """End the statement before `token` where it is complete, as if a `;` stood there."""
        if self._is_first_alone():
            return False
        try:
            self.parser.feed_token(Lexeme("SEMICOLON", ";", 0, token.line, token.column))
        except UnexpectedToken:
            return False
        self.starts[-1] = self._stack()
        self.statement.clear()
        self.quiet = True
        return True

    def _parenthesis_depth(self) -> int:
        depth = 0
        for bracket in reversed(self.brackets):
            if bracket.type == "LBRACE":
                break
            depth += 1
        return depth

    def _leave_parentheses(self) -> None:
        while self._in_parentheses():
            self.brackets.pop()

    def _closing(self, depth: int) -> int | None:
        """Where the parentheses around the error close, if they do so within the statement."""
        if depth == 0:
            return None
        for position in range(self.position, len(self.tokens)):
            kind = self.tokens[position].type
            if kind in ("LBRACE", "RBRACE", "SEMICOLON"):
                return None
            if kind in ("LPAR", "LSQB"):
                depth += 1
            elif kind in ("RPAR", "RSQB"):
                depth -= 1
                if depth == 0:
                    return position
        return None

    def _skip_statement(self) -> None:
        """Move to the end of the statement, over the bodies in it."""
        depth = 0
        while self.position < len(self.tokens):
            kind = self.tokens[self.position].type
            if depth == 0 and kind in ("NEWLINE", "SEMICOLON", "RBRACE"):
                return
            depth += {"LBRACE": 1, "RBRACE": -1}.get(kind, 0)
            self.position += 1


def _add(opener: Lexeme) -> str:
    return f"add the `{ {'(': ')', '[': ']', '{': '}'}[str(opener)] }` that belongs to it"
