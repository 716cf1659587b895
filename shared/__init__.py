"""What the functions do: callers come in through openai_api, and upstream asks Azure OpenAI."""
