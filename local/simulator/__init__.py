"""Simulate the services that the app calls: Azure OpenAI and the managed identity's endpoint."""
