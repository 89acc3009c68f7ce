"""What an editor may ask, one feature a module; `bcgraph.lsp.server` has the table of them."""
