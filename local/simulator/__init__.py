"""Simulate the services that the app calls: Azure OpenAI, the identity endpoint and Entra ID."""
