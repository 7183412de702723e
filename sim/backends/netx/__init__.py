"""netx."""
