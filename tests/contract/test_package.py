"""What is shipped: the wheel's contents and the repository's size."""

from __future__ import annotations

import subprocess
import sys
import zipfile

import pytest

from tests.contract.source import PACKAGE, ROOT

LARGEST_REPOSITORY, LARGEST_MODEL = 48e6, 32e6
BUNDLED = PACKAGE / "bundled"


def test_repository_is_small():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    sizes = {
        name: (ROOT / name).stat().st_size
        for name in listed.stdout.decode().split("\0")
        if name and (ROOT / name).is_file()
    }
    total = sum(sizes.values())
    largest = sorted(sizes, key=sizes.__getitem__)[-5:]
    assert total < LARGEST_REPOSITORY, f"{total / 1e6:.1f} MB; largest: {largest}"


def test_bundled_files_are_small():
    assert sum(path.stat().st_size for path in BUNDLED.rglob("*") if path.is_file()) < LARGEST_MODEL


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> set[str]:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as file:
        return set(file.namelist())


def test_wheel_has_types_licence_and_every_source_file(wheel):
    expected = {str(path.relative_to(ROOT / "src")) for path in PACKAGE.rglob("*.py")} | {
        "infinite_talk/py.typed"
    }
    assert expected <= wheel
    for licence in ("LICENSE", "NOTICE"):
        assert any(name.endswith(f".dist-info/licenses/{licence}") for name in wheel)


def test_wheel_has_the_bundled_files_and_nothing_else(wheel):
    bundled = {str(path.relative_to(ROOT / "src")) for path in BUNDLED.rglob("*") if path.is_file()}
    assert bundled <= wheel
    assert all(name.startswith(("infinite_talk/", "infinite_talk-")) for name in wheel)
