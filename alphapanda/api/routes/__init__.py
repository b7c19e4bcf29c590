"""The routes by noun: each module's ``add`` declares its own."""
