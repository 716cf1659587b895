"""Measure what the app costs per call, against fair baselines. This folder is never deployed."""
