"""Traces of sessions through the real decisions, on a virtual clock: what it costs, and who waits."""
