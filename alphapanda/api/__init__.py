"""The HTTP API of a workspace, as a process under the hub: ``python -m alphapanda.api WORKSPACE``.

`call` is what is known of one call; `guard` meets every one first, then `limiter`, then the routes: `guarded` is what
each of them goes through, `routes/` holds them by noun, `app` puts all together. `serving` is uvicorn with deadlines.
"""
