"""Evaluating candidates in many processes, on one machine or on a Ray cluster: the same history as in one process.

The driver alone decides what is evaluated and in which order it is recorded; workers only compute. Each evaluation
follows from the seed, so it does not matter which worker computes it, when it arrives, or how often it is computed.
Needs the extra `ray`.
"""
