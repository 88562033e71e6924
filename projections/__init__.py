"""What we can see: tables folded from the log, safe to drop at any time."""
