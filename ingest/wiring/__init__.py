"""Builds the program's parts from the settings: the one place where the borders meet."""
