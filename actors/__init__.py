"""Who acts: mailboxes, supervisors, executors; no NATS and no SQL."""
