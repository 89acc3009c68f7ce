"""The layers, several of a subject in a module each, which declares them in `LAYERS`, by the names that texts use.

A module is imported without torch; its functions load it.
"""
