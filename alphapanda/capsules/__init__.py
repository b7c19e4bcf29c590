"""The parts of ``alphapanda.capsule``: where code stands, what it needs, and whether the kernel still agrees."""
