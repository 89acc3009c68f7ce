"""The language server: what an editor asks about texts, one feature a module. It never imports torch."""
