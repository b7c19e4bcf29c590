"""The key that signs: one a person, kept where nobody else can read it, and never shown."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import keyring
import pytest
from keyring.backends.fail import Keyring as NoKeyring

from alphapanda.errors import ConfigurationError
from alphapanda.places import path_of
from alphapanda.signing import NAME, Signer, signed_by


@pytest.fixture(autouse=True)
def file_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No keyring, and a folder of settings of our own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(keyring, "get_keyring", NoKeyring)


def test_all_who_ask_at_once_get_the_one_key_that_is_kept() -> None:
    together = Barrier(8)

    def load(_: int) -> str:
        together.wait()
        return Signer.load().public

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(load, range(8))) == {Signer.load().public}


def test_what_it_signs_is_known_by_its_public_half_alone() -> None:
    one, other = Signer.load(), Signer.load("another")
    signature = one.sign(b"body")
    assert signed_by(one.public, b"body", signature)
    assert not signed_by(one.public, b"bodY", signature)
    assert not signed_by(other.public, b"body", signature)
    assert not signed_by("no key", b"body", signature)


def test_the_key_is_its_owners_and_is_shown_nowhere() -> None:
    signer = Signer.load()
    secret = path_of(NAME).read_text()
    assert path_of(NAME).stat().st_mode & 0o777 == 0o600
    assert secret not in repr(signer) + signer.public
    path_of(NAME).write_text(secret[:-2])
    with pytest.raises(ConfigurationError, match="no ed25519 key") as caught:
        Signer.load()
    assert secret[:-2] not in str(caught.value)
    path_of(NAME).chmod(0o644)
    with pytest.raises(ConfigurationError, match="others can read"):
        Signer.load()
