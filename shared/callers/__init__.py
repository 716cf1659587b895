"""Decide who may call: the keys of the OpenAI-compatible routes."""
