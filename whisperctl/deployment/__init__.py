"""The way of a stack into an account, and out of it: settings, package, change set, destruction."""
