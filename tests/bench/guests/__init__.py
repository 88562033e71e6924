"""What runs in the environment of the peers: a queue, a job and a client; nothing of Hindbrain."""
