"""``pip install infinite-talk`` without extras: what works then, and what says which extra it needs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution, requires
from pathlib import Path

import infinite_talk

SOURCE = Path(infinite_talk.__file__).parents[1]
EMBEDDED = SOURCE / "infinite_talk" / "bundled" / "embedded"
MEDIA = f"--image {EMBEDDED / 'portrait.png'} --audio {EMBEDDED / 'speech.flac'}"
SMALL = "--size 64x64! --steps 1 --max-frames 17 --window-frames 17 --motion-frames 5"
PROGRAM = """
import json, sys
from infinite_talk.frontends.cli.main import run
print(json.dumps([run(line.split()) for line in sys.argv[1:]]), file=sys.stderr)
"""


def test_videos_are_made_and_the_doctor_reports(tmp_path: Path) -> None:
    site = tmp_path / "site"
    for package in with_their_own({"infinite-talk"}) - {"infinite-talk"}:
        lay_out(package, site)
    assert (site / "torch").exists() and not (site / "sqlalchemy").exists()
    works = ["doctor", "models list", f"plan {MEDIA}", f"generate {MEDIA} {SMALL} -o {tmp_path / 'a.mp4'}"]
    needs = ["jobs list", "serve"]
    done = subprocess.run(
        [sys.executable, "-S", "-c", PROGRAM, *works, *needs],  # -S: without this environment's own packages
        capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"PYTHONPATH": f"{SOURCE}{os.pathsep}{site}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stderr.splitlines()[-1]) == [0, 0, 0, 0, 2, 2], done.stderr
    assert (tmp_path / "a.mp4").stat().st_size
    assert done.stderr.count("pip install 'infinite-talk[web]'") == 2
    assert "sqlalchemy is not installed" in done.stdout


def with_their_own(packages: set[str]) -> set[str]:
    """Installed packages, and all that they need without extras."""
    known, todo = set(), set(packages)
    while todo:
        known.add(package := todo.pop())
        try:
            needs = requires(package) or []
        except PackageNotFoundError:  # of another platform
            continue
        todo |= {name_of(need) for need in needs if "extra ==" not in need} - known
    return known


def name_of(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def lay_out(package: str, site: Path) -> None:
    """Link the files of a package into a folder of its own."""
    site.mkdir(exist_ok=True)
    try:
        found = distribution(package)
    except PackageNotFoundError:
        return
    for part in {Path(file).parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
        if not (site / part).exists():
            (site / part).symlink_to(Path(str(found.locate_file(part))).resolve())
