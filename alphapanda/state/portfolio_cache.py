"""What each portfolio looks like now, for whoever shows it; the journal, not this, is the truth."""

from __future__ import annotations

from alphapanda.state.managers import DocumentStateManager


class PortfolioCache(DocumentStateManager):
    """Documents at ``{namespace}:portfolio:{portfolio_id}``.

    A writer that may be overtaken hands ``put`` the version it read; ``names`` lists the portfolios.
    """

    default_kind = "portfolio"
