"""How it travels: the only room that has heard of NATS."""
