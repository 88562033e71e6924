"""Requests and replies, a module for every kind that has a desk of its own."""
