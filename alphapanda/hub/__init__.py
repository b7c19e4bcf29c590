"""The hub, one a workspace: who starts all the others and keeps them running, and how to speak with it."""
