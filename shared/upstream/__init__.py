"""Talk to Azure OpenAI: clients, connections, tokens, and failover between endpoints."""
