"""Run the app on this machine, as `func start` does. Where nothing is configured, start simulators."""
