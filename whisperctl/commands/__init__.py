"""The verbs of the command line, one module a verb or a small family of verbs."""
