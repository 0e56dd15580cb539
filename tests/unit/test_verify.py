"""Checksums of files that are here: from the lock, the hub's cache, the catalogue, ``model.json``."""

from __future__ import annotations

import hashlib
import shutil
import subprocess

import pytest

from infinite_talk.errors import CheckpointError
from infinite_talk.weights.hub import verify
from infinite_talk.weights.hub.catalogue import Preset
from infinite_talk.weights.hub.checksum import checksum
from infinite_talk.weights.hub.files import RemoteFile
from infinite_talk.weights.hub.pull import pull
from infinite_talk.weights.hub.remote import Hub
from infinite_talk.weights.hub.store import HubCache, ModelsFolder
from infinite_talk.weights.hub.verify import verify_files, verify_preset
from infinite_talk.weights.manifest import EMBEDDED
from tests.hub import fake_hub

BIG = bytes(range(256)) * 40
FILES = (RemoteFile("o/n", "a/big.gguf", "vae", len(BIG)), RemoteFile("o/n", "small.json", "config", 2))
PRESET = Preset("p", "", FILES)


@pytest.fixture
def pulled(tmp_path):
    with fake_hub() as hub:
        hub.add("o/n", "a/big.gguf", BIG)
        hub.add("o/n", "small.json", b"{}")
        settings = Hub(hub.endpoint)
        pull(PRESET, cache=tmp_path / "cache", hub=settings)
        pull(PRESET, folder=tmp_path / "models", cache=tmp_path / "none", hub=settings)
    return tmp_path


def _flip(path):
    content = bytearray(path.read_bytes())
    content[1] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("place", [lambda t: HubCache(t / "cache"), lambda t: ModelsFolder(t / "models")])
def test_a_flipped_byte_is_found_in_either_store(pulled, place):
    store = place(pulled)
    results = list(verify_preset(PRESET, (store,)))
    assert [one.ok for one in results] == [True, True]
    for broken in results:
        _flip(broken.path)
        states = {one.path: one.ok for one in verify_preset(PRESET, (store,))}
        assert states == {one.path: one is not broken for one in results}
        _flip(broken.path)


def test_the_cache_needs_no_lock_file(pulled):
    (pulled / "cache/infinite-talk-lock.json").unlink()
    big, small = verify_preset(PRESET, (HubCache(pulled / "cache"),))
    assert (big.ok, small.ok, big.source) == (True, True, "the hub's cache")


def test_a_folder_is_searched_for_model_files(pulled):
    (one,) = verify_files([pulled / "models"])
    assert (one.ok, one.path.name, one.source) == (True, "big.gguf", "infinite-talk-lock.json")


def test_the_catalogue_knows_some_files_by_name_and_size(tmp_path, monkeypatch):
    known = RemoteFile("o/n", "x/big.gguf", "vae", len(BIG), hashlib.sha256(BIG).hexdigest(), exact=True)
    monkeypatch.setattr(verify, "catalogued", lambda: (known,))
    path = tmp_path / "big.gguf"
    path.write_bytes(BIG)
    (one,) = verify_files([path])
    assert (one.ok, one.source) == (True, "the catalogue")
    path.rename(other := tmp_path / "other.gguf")
    (one,) = verify_files([other])
    assert (one.ok, one.source) == (None, "no checksum is known")


def test_a_model_folder_has_its_own_checksums(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(EMBEDDED, folder)
    assert {one.ok for one in verify_files([folder])} == {True}
    _flip(folder / "vae.safetensors")
    assert [one.path.name for one in verify_files([folder]) if not one.ok] == ["vae.safetensors"]


def test_nothing_to_verify(tmp_path):
    with pytest.raises(CheckpointError, match="models pull p"):
        list(verify_preset(PRESET, (HubCache(tmp_path),)))
    with pytest.raises(CheckpointError, match="no model file"):
        list(verify_files([tmp_path]))
    with pytest.raises(CheckpointError, match="is not there"):
        list(verify_files([tmp_path / "no"]))


def test_git_names_are_git_s(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(BIG)
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    done = subprocess.run(["git", "hash-object", path], capture_output=True, text=True, check=True)
    assert checksum(path, "0" * 40) == done.stdout.strip()
