"""What the app costs per call, against honest baselines. Never deployed."""
