"""What several test modules share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real samples that do not come with the project: used where ``shared/data`` stands beside the repository."""
    beside = (parent / "shared" / "data" for parent in Path(__file__).parents)
    found = next((folder for folder in beside if folder.is_dir()), None)
    if found is None:
        pytest.skip("real samples are not part of the project")
    return found
