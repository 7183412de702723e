"""chip_network."""
