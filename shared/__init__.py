"""Implement the functions that function_app.py declares."""
