"""float_network."""
