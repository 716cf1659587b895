"""The app behind the functions: everything that function_app.py calls."""
