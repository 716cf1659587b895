"""Record what each call used and how it ended: metrics, spans and the access log."""
