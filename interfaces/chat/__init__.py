"""The door to chats: a program of its own, which needs no more of a node than any other client."""
