"""Serve chats and the OpenAI API: read a caller's request, translate it for Azure, and pass the response back."""
