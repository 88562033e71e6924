"""Where people touch it: command line, HTTP, Python, and the wiring of a node."""
