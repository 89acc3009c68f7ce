"""The strategies of bcgraph itself, a module each, which has the name that texts use and declares `STRATEGY`.

A module is imported when its strategy is asked for, without torch and without Optuna.
"""
