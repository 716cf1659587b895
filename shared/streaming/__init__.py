"""Send Azure's responses to the client: streams of events, and whole bodies."""
