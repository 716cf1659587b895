"""Relay server-sent events from Azure to the client."""
