"""What can be said: commands, facts, and the pure rules between them."""
