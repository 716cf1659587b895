"""Runs the app on a developer's machine, without Core Tools and without Azure. Never deployed."""
