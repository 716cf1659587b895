"""Provide the baselines: each file is a program or a function app of its own."""
