"""Figures: how fast and how small it is, on this machine, beside others who do a part of the same.

Everything is done from outside: nodes are started by the command line, work comes in over NATS from a plain
client, and what was counted is asked of the tables afterwards.  Run them with `scripts/bench`.
"""
