"""What every room shares: the chip network, integer arithmetic, errors, protocol, games."""
