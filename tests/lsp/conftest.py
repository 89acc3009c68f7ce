"""A real client, which talks to `bcgraph lsp` over standard input and output."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_lsp
from lsprotocol import types
from pygls.protocol import default_converter
from pytest_lsp import ClientServerConfig, LanguageClient
from pytest_lsp.client import DEFAULT_CLIENT_FEATURES, register_lsp_features

TIMEOUT = 60
"""Seconds to wait for diagnostics."""


def published(client: LanguageClient, params: types.PublishDiagnosticsParams) -> None:
    """Keep what was published, by document and version."""
    client.published[params.uri, params.version] = list(params.diagnostics)


def make_client() -> LanguageClient:
    client = LanguageClient(converter_factory=default_converter)
    register_lsp_features(client, DEFAULT_CLIENT_FEATURES | {types.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS: published})
    client.published = {}
    return client


@pytest_lsp.fixture(
    config=ClientServerConfig([sys.executable, "-m", "bcgraph", "lsp"], client_factory=make_client), scope="module"
)
async def client(lsp_client: LanguageClient, tmp_path_factory) -> AsyncIterator[None]:
    folder = tmp_path_factory.mktemp("workspace")
    (folder / "parts.bcg").write_text(PARTS)
    capabilities = pytest_lsp.client_capabilities("visual-studio-code")
    params = types.InitializeParams(
        capabilities,
        workspace_folders=[types.WorkspaceFolder(folder.as_uri(), "workspace")],
        root_uri=folder.as_uri(),
    )
    found = await lsp_client.initialize_session(params)
    lsp_client.folder = folder
    lsp_client.found = found
    yield
    await lsp_client.shutdown_session()


PARTS = """bcg 1

# Two layers of neurons, one after the other.
block pair(channels, stride=1) {
  conv1 = conv(channels, kernel=3, stride=stride)
  lif1 = neuron()
  conv2 = conv(channels, kernel=3)
  lif2 = neuron()
}
"""

MAIN = """bcg 1

import "parts.bcg"

# A neuron that leaks.
neuron leaky(tau=0.8, threshold=1.0) {
  state v = 0
  u = tau * v + I
  s = spike(u - threshold, triangle())
  v = u * (1 - s)
}

block body(width=8) {
  stem = conv(width)
  first = pair(width)
  repeat i in range(2) { [i] = pair(2 * width, stride=2) }
  adaptive_avgpool(1)
  flatten()
  fc = linear(10)
}

network net {
  input    = image(3, 32, 32)
  steps    = 4
  neuron   = leaky(tau=0.9)
  backbone = body(width=8)

  backward first.lif2 -> first.lif1
  backward @4 -> @0 { delay = 2 }
}

train { epochs = 12 }
"""


class Document:
    """A text that is open in the client."""

    def __init__(self, client: LanguageClient, name: str, text: str) -> None:
        self.client, self.version, self.text = client, 0, text
        self.path: Path = client.folder / name
        self.uri = self.path.as_uri()
        client.published.clear()
        client.text_document_did_open(
            types.DidOpenTextDocumentParams(types.TextDocumentItem(self.uri, "bcgraph", 0, text))
        )

    @property
    def id(self) -> types.TextDocumentIdentifier:
        return types.TextDocumentIdentifier(self.uri)

    def at(self, before: str, after: str = "") -> types.Position:
        """The position between two pieces of the text, counted in UTF-16 units."""
        start = self.text.index(before + after) + len(before)
        line = self.text[:start].count("\n")
        shown = self.text[:start].rpartition("\n")[2]
        return types.Position(line, len(shown.encode("utf-16-le")) // 2)

    def change(self, text: str) -> None:
        self.version += 1
        self.client.published.pop((self.uri, self.version), None)
        self.text = text
        self.client.text_document_did_change(
            types.DidChangeTextDocumentParams(
                types.VersionedTextDocumentIdentifier(self.version, self.uri),
                [types.TextDocumentContentChangeWholeDocument(text)],
            )
        )

    async def diagnostics(self) -> list[types.Diagnostic]:
        """What is said about the present version."""
        async with asyncio.timeout(TIMEOUT):
            while (self.uri, self.version) not in self.client.published:
                await asyncio.sleep(0.01)
        return self.client.published[self.uri, self.version]

    def close(self) -> None:
        self.client.text_document_did_close(types.DidCloseTextDocumentParams(self.id))

    def part(self, place: types.Range) -> str:
        """The text of a range within a line."""
        assert place.start.line == place.end.line
        line = self.text.split("\n")[place.start.line].encode("utf-16-le")
        return line[2 * place.start.character : 2 * place.end.character].decode("utf-16-le")

    def edited(self, edits) -> str:
        """The text after edits that do not overlap."""
        lines = self.text.split("\n")
        for edit in sorted(edits, key=lambda e: (e.range.start.line, e.range.start.character), reverse=True):
            start, end = edit.range.start, edit.range.end
            after = lines[end.line][end.character :] if end.line < len(lines) else ""
            new = (
                lines[start.line][: start.character] + edit.new_text + after
                if start.line < len(lines)
                else edit.new_text
            )
            lines[start.line : end.line + 1] = new.split("\n")
        return "\n".join(lines)
