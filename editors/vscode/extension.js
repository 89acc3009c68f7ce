// The client of `bcgraph lsp`, and a pane with the picture that `bcgraph draw` makes of the network.
"use strict";

const { execFile } = require("child_process");
const fs = require("fs");
const os = require("os");
const path = require("path");
const vscode = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

let client;
let pane;
let drawings = 0;

function command() {
  return vscode.workspace.getConfiguration("bcgraph").get("command", ["bcgraph"]);
}

async function start() {
  const [program, ...first] = command();
  const run = { command: program, args: [...first, "lsp"] };
  client = new LanguageClient("bcgraph", "bcgraph", { run, debug: run }, {
    documentSelector: [{ language: "bcgraph" }],
  });
  try {
    await client.start();
  } catch (error) {
    vscode.window.showErrorMessage(
      `bcgraph could not be started (${error.message}). Set "bcgraph.command", or: pip install 'bcgraph[lsp]'`,
    );
  }
}

function draw(document) {
  if (!pane || document.languageId !== "bcgraph") return;
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "bcgraph-"));
  const picture = path.join(folder, "net.svg");
  const [program, ...first] = command();
  const drawing = ++drawings;
  execFile(program, [...first, "draw", document.fileName, "-o", picture], (error, _, said) => {
    if (pane && drawing === drawings) {
      pane.title = path.basename(document.fileName);
      pane.webview.html = error ? page(`<pre>${escaped(said || error.message)}</pre>`) : page(fs.readFileSync(picture, "utf8"));
    }
    fs.rmSync(folder, { recursive: true, force: true });
  });
}

function escaped(text) {
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

function page(body) {
  const policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";
  return `<!DOCTYPE html><html><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="${policy}">
<style>body { background: white; color: black; padding: 1em; } pre { white-space: pre-wrap; } svg { max-width: 100%; height: auto; }</style></head>
<body>${body.replace(/<\?xml[^>]*>|<!DOCTYPE[^>]*>/g, "")}</body></html>`;
}

function preview() {
  const editor = vscode.window.activeTextEditor;
  if (!editor) return;
  if (!pane) {
    pane = vscode.window.createWebviewPanel("bcgraph", "bcgraph", vscode.ViewColumn.Beside, {});
    pane.onDidDispose(() => (pane = undefined));
  }
  draw(editor.document);
}

function activate(context) {
  context.subscriptions.push(
    vscode.commands.registerCommand("bcgraph.preview", preview),
    vscode.commands.registerCommand("bcgraph.restart", async () => {
      if (client) await client.stop();
      await start();
    }),
    vscode.workspace.onDidSaveTextDocument(draw),
    vscode.window.onDidChangeActiveTextEditor((editor) => editor && draw(editor.document)),
  );
  return start();
}

function deactivate() {
  return client ? client.stop() : undefined;
}

module.exports = { activate, deactivate };
