"""Decide who may call: the callers of the OpenAI-compatible routes, by their keys and their Entra ID tokens."""
