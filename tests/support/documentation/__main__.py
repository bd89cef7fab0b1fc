"""Write what is generated, or check what was built: `scripts/docs`."""

from __future__ import annotations

import sys
from pathlib import Path

from .generated import generated
from .site import problems_of

ROOT = Path(__file__).parents[3]

if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        for path, text in generated(ROOT).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    else:
        problems = problems_of(ROOT / "build" / "site")
        print(*problems, sep="\n", end="\n" if problems else "")
        sys.exit(bool(problems))
