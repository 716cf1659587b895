"""Simulate the Azure Functions host, around Microsoft's own Python runtime."""
