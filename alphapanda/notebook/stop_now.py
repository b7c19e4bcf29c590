"""Stop a run without the package, the kernel or anything but Python: ``python -I stop_now.py SOCKET RUN [flatten]``.

The card's last way when a kernel is busy; it runs in a terminal of the Jupyter server. Its answer stands between marks,
since a terminal shows more than the answer.
"""

import json
import socket
import sys
from typing import Any

SECONDS = 25.0  # the hub gives a run twelve to end by itself


def main(path: str, run: str, *words: str) -> None:
    """Ask the hub and print what it said."""
    answer: dict[str, Any]
    line = socket.socket(socket.AF_UNIX)
    line.settimeout(SECONDS)
    try:
        line.connect(path)
        line.sendall(json.dumps({"do": "stop", "run": run, "flatten": "flatten" in words}).encode() + b"\n")
        answer = json.loads(line.makefile("rb").readline())
    except (OSError, ValueError) as error:
        answer = {"ok": False, "error": {"message": f"the hub does not answer: {error}"}}
    kept = {"ok": bool(answer.get("ok")), "state": answer.get("state", "")}
    if not kept["ok"]:
        kept["message"] = str(answer.get("error", {}).get("message", "the hub refused"))
    sys.stdout.write(f"@@stop {json.dumps(kept)} @@\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
