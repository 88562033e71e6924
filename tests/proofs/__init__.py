"""Long proofs: whole nodes, treated badly, judged from outside.

They use the command line, plain NATS and the files of the system, and they read the log with their own eyes:
nothing here asks the program whether the program is right.  Run them with `scripts/prove NAME [--seed N]`.
"""
