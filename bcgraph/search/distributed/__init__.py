"""Evaluating candidates in many processes, on one machine or on a Ray cluster: the same history as in one process.

What is evaluated, and in which order it is kept, is decided by the driver alone; workers only compute. Each evaluation
follows from the seed, so it does not matter which worker makes it, when it arrives, or how often it had to be made.
Needs the extra `ray`.
"""
