"""A deterministic simulation of the real order path: seeded, in virtual time, against the sandbox's broker."""
