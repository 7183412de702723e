"""snntorch."""
