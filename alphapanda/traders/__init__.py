"""Where accepted orders go: one module a broker."""
