"""The app behind the functions that function_app.py declares."""
