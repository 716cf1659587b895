"""Run the app on this machine, as func start does, with simulators where nothing is configured."""
