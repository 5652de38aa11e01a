"""Releases: what goes into one, its name, and its way into the stack's bucket."""
