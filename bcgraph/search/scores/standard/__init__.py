"""The scores of bcgraph itself, a module each, which has the name that texts use and declares `SCORE`.

A module is imported without torch, since reports ask it for the name of its score; its functions load torch.
"""
