"""Find secrets before they are committed: `python .ci/scan_secrets.py [PATH ...]`, offline, exit 1 if any is found.

Without paths it reads every file that git has or would add. On top of detect-secrets' own patterns it knows Kite's:
32 (secret, access or request token) or 16 (key) alphanumerics given to a name that says so. A finding names file,
line and kind, never the value. A line that must look like a secret ends with ``pragma: allowlist secret``.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from detect_secrets.core.scan import scan_line
from detect_secrets.settings import transient_settings

PLUGINS = [
    "AWSKeyDetector",
    "AzureStorageKeyDetector",
    "BasicAuthDetector",
    "GitHubTokenDetector",
    "GitLabTokenDetector",
    "JwtTokenDetector",
    "PrivateKeyDetector",
    "SlackDetector",
    "StripeDetector",
    "TelegramBotTokenDetector",
]
KITE = re.compile(
    r"""(?ix) (?: (?P<long>access_?token | request_?token | api_?secret | enc_?token) | api_?key )
    \\? ["']? (?: \s* [:=,(] \s* | \s+ ) (?: \w+ \( \s* )? \\? ["']?
    (?P<value> (?(long) [a-z0-9+/]{32,100}={0,2} | [a-z0-9]{16}) ) (?![a-z0-9])"""
)
WORTH = re.compile(r"(?i)key|token|secret|passw|://|AKIA|gh[pousr]_|glpat|eyJ|xox|_live_|BEGIN|bot|\d{8,10}:")
ALLOWED = "pragma: allowlist secret"
LINE_MAX = 20_000  # longer lines are data or pictures, and are read by the Kite pattern only


def candidates() -> list[Path]:
    """Every file git has or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=True,
    )
    return [Path(name) for name in listed.stdout.decode().split("\0") if name]


def kinds(line: str) -> set[str]:
    """What secrets a line seems to hold."""
    if ALLOWED in line or not WORTH.search(line):
        return set()
    found = {"Kite credential" for hit in KITE.finditer(line) if _random(hit["value"])}
    if len(line) <= LINE_MAX:
        found |= {secret.type for secret in scan_line(line)}
    return found


def _random(value: str) -> bool:
    """Credentials mix letters and digits; names and padding do not."""
    return bool(re.search(r"[A-Za-z]", value) and re.search(r"\d", value) and len(set(value)) > 5)


def main(arguments: list[str]) -> int:
    paths = [Path(name) for name in arguments] or candidates()
    findings: list[str] = []
    with transient_settings({"plugins_used": [{"name": name} for name in PLUGINS], "filters_used": []}):
        for path in paths:
            try:
                text = path.read_text("utf-8")
            except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
                continue  # not text, deleted but not yet staged, or a submodule
            for number, line in enumerate(text.splitlines(), 1):
                findings += [f"{path}:{number}: {kind}" for kind in sorted(kinds(line))]
    if findings:
        print("\n".join(findings))
        print("Take it out, and end the credential at the broker if it was ever pushed.", file=sys.stderr)
        print(f"A made-up one: end its line with `{ALLOWED}`.", file=sys.stderr)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
