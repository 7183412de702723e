"""quantised."""
