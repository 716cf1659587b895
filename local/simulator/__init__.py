"""Simulate the services that the app calls: Azure OpenAI and the identity endpoint."""
