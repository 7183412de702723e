"""Lava processes of our own. Lava executes every file in this folder while it compiles."""
