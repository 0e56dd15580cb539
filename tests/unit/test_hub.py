"""Downloading: resume, faults of the network and the hub, checksums, disk, offline; against a stand-in of the hub."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from infinite_talk.errors import Cancelled, CheckpointError, NoSpaceError, UsageError
from infinite_talk.weights.hub.catalogue import PRESETS, Preset, catalogued, preset
from infinite_talk.weights.hub.files import LICENCES, RemoteFile
from infinite_talk.weights.hub.pull import pull
from infinite_talk.weights.hub.remote import Hub
from infinite_talk.weights.hub.store import LOCK, HubCache, ModelsFolder, installed, read_lock, write_lock
from tests.hub import COMMIT, etag, fake_hub

REPO = "owner/name"
BIG = bytes(i * i % 251 for i in range(300_000))
SMALL = b'{"a": 1}'
WEIGHTS = RemoteFile(REPO, "sub/weights.safetensors", "vae", len(BIG))
CONFIG = RemoteFile(REPO, "config.json", "config", len(SMALL))
BOTH = Preset("both", "for tests", (CONFIG, WEIGHTS))


@pytest.fixture
def hub():
    with fake_hub() as one:
        one.add(REPO, WEIGHTS.path, BIG)
        one.add(REPO, CONFIG.path, SMALL)
        yield one


@pytest.fixture
def fetch(hub, tmp_path):
    """Pull from the stand-in into a cache, or a folder, of this test."""

    def run(what=BOTH, *, folder=None, timeout=2.0, attempts=3, token=None, progress=None):
        settings = Hub(hub.endpoint, token=token, timeout=timeout, attempts=attempts, pause=0.01)
        return pull(what, folder=folder, cache=tmp_path / "cache", hub=settings, progress=progress)

    return run


def test_pull_fills_the_cache_that_other_programs_read(hub, fetch, tmp_path):
    from huggingface_hub import hf_hub_download

    seen = []
    done = fetch(progress=seen.append)
    assert done.downloaded == len(BIG) + len(SMALL)
    assert done.paths[WEIGHTS.key].read_bytes() == BIG
    assert done.paths[CONFIG.key].read_bytes() == SMALL
    assert hf_hub_download(REPO, WEIGHTS.path, cache_dir=tmp_path / "cache", local_files_only=True) == str(
        done.paths[WEIGHTS.key]
    )
    assert seen[-1].total_done == seen[-1].total == done.downloaded
    assert [a.total_done for a in seen] == sorted(a.total_done for a in seen)
    assert not list((tmp_path / "cache").rglob("*.incomplete"))
    before = len(hub.asked)
    assert fetch().downloaded == 0
    assert len(hub.asked) == before, "what is complete needs no network"


def test_pull_into_a_folder_has_the_names_of_the_repository(fetch, tmp_path):
    done = fetch(folder=tmp_path / "models")
    assert done.paths[WEIGHTS.key] == tmp_path / "models/owner/name/sub/weights.safetensors"
    assert done.paths[WEIGHTS.key].read_bytes() == BIG
    locked = read_lock(tmp_path / "models")[WEIGHTS.key]
    assert (locked.commit, locked.size, locked.checksum) == (COMMIT, len(BIG), etag(BIG))
    assert not list((tmp_path / "models").rglob("*.incomplete"))


def test_what_two_presets_share_is_stored_once(hub, fetch):
    fetch()
    other = Preset("other", "", (CONFIG, WEIGHTS, RemoteFile(REPO, "more.json", "config", 3)))
    hub.add(REPO, "more.json", b"abc")
    assert fetch(other).downloaded == 3


def test_a_revision_that_is_no_branch(hub, fetch):
    """The speech encoder's safetensors are in a pull request only."""
    hub.add(REPO, "model.safetensors", BIG, revision="refs/pr/1")
    file = RemoteFile(REPO, "model.safetensors", "speech", 0, revision="refs/pr/1")
    assert fetch(Preset("speech", "", (file,))).paths[file.key].read_bytes() == BIG
    with pytest.raises(CheckpointError, match="no file"):
        fetch(Preset("speech", "", (RemoteFile(REPO, "model.bin", "speech", 0, revision="refs/pr/1"),)))


def test_the_token_goes_to_the_hub_and_not_to_the_storage(hub, fetch):
    hub.token = "hf_secret"
    fetch(token="hf_secret")
    for one in hub.asked:
        assert one.path.startswith("/storage/") == ("authorization" not in one.headers), one


@pytest.mark.parametrize("after", [0, 1, 100_000])
def test_a_cut_connection_is_resumed_where_it_broke(hub, fetch, after):
    hub.fail("GET", "weights.safetensors", after=after)
    assert fetch().paths[WEIGHTS.key].read_bytes() == BIG
    ranges = [one.headers.get("range") for one in hub.gets() if "/storage/" in one.path]
    assert ranges == [None, f"bytes={after}-" if after else None]


def test_a_stalled_connection_times_out_and_is_resumed(hub, fetch):
    hub.fail("GET", "weights.safetensors", after=50_000, stall=True)
    notes = []
    done = fetch(timeout=0.3, progress=lambda p: notes.append(p.note))
    assert done.paths[WEIGHTS.key].read_bytes() == BIG
    assert any("connection lost" in note for note in notes if note)
    assert hub.gets()[-1].headers["range"] == "bytes=50000-"


def test_a_server_that_ignores_ranges_is_read_from_the_start(hub, fetch):
    hub.fail("GET", "weights.safetensors", after=50_000)
    hub.fail("GET", "weights.safetensors", whole=True)
    assert fetch().paths[WEIGHTS.key].read_bytes() == BIG


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_too_many_requests_are_waited_for_as_long_as_the_hub_says(hub, fetch, method):
    hub.fail(method, "weights.safetensors", times=2, status=429, headers={"Retry-After": "0"})
    assert fetch().paths[WEIGHTS.key].read_bytes() == BIG


def test_a_hub_that_asks_for_hours_is_not_waited_for(hub, fetch):
    hub.fail("GET", "weights.safetensors", status=429, headers={"Retry-After": "7200"})
    with pytest.raises(CheckpointError, match="asks to wait") as caught:
        fetch()
    assert caught.value.code == "hub_busy"


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_failing_server_is_asked_again_and_given_up_in_the_end(hub, fetch, method):
    hub.fail(method, "weights.safetensors", status=500, times=2)
    assert fetch().paths[WEIGHTS.key].read_bytes() == BIG
    hub.add(REPO, "second.bin", BIG[::-1])
    hub.fail(method, "second.bin", status=503, times=99)
    with pytest.raises(CheckpointError, match=r"503.*second.bin"):
        fetch(Preset("x", "", (RemoteFile(REPO, "second.bin", "vae", 0),)))


def test_progress_counts_attempts_anew(hub, fetch):
    """Five breaks on the way, three attempts: each brought something, so none was the last."""
    hub.fail("GET", "weights.safetensors", after=30_000, times=5)
    assert fetch(attempts=3).paths[WEIGHTS.key].read_bytes() == BIG


def test_what_arrived_before_a_stop_is_used_by_the_next_pull(hub, fetch, tmp_path):
    def stop(progress):
        if progress.file == WEIGHTS.path and progress.done:
            raise Cancelled("stopped")

    hub.fail("GET", "weights.safetensors", after=120_000)
    with pytest.raises(Cancelled):
        fetch(progress=stop)
    (partial,) = (tmp_path / "cache").rglob("*.incomplete")
    assert partial.stat().st_size > 0
    kept = partial.stat().st_size
    assert fetch().paths[WEIGHTS.key].read_bytes() == BIG
    assert hub.gets()[-1].headers["range"] == f"bytes={kept}-"


def test_a_wrong_checksum_is_deleted_and_said(hub, fetch, tmp_path):
    hub.fail("GET", "weights.safetensors", flip=True)
    with pytest.raises(CheckpointError, match=r"damaged.*deleted") as caught:
        fetch()
    assert caught.value.exit_code == 4
    assert not list((tmp_path / "cache").rglob("*.incomplete"))
    assert fetch().paths[WEIGHTS.key].read_bytes() == BIG


def test_a_small_file_is_checked_with_git_s_checksum(hub, fetch):
    hub.fail("GET", "config.json", flip=True)
    with pytest.raises(CheckpointError, match=r"config.json came damaged"):
        fetch()


def test_a_partial_file_that_is_too_long_is_begun_again(hub, fetch, tmp_path):
    partial = tmp_path / f"m/owner/name/sub/.weights.safetensors.{etag(BIG)[:16]}.incomplete"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(bytes(len(BIG) + 1))
    assert fetch(folder=tmp_path / "m").paths[WEIGHTS.key].read_bytes() == BIG


def test_another_spelling_is_tried(hub, fetch, tmp_path):
    file = RemoteFile(REPO, "sub/Weights-480P.safetensors", "vae", 0, alternatives=(WEIGHTS.path,))
    done = fetch(Preset("spelt", "", (file,)))
    assert done.paths[file.key].read_bytes() == BIG
    assert installed(file, (HubCache(tmp_path / "cache"),))


def test_no_spelling_is_there(fetch):
    file = RemoteFile(REPO, "a.safetensors", "vae", 0, alternatives=("b.safetensors",))
    with pytest.raises(CheckpointError, match=r"a.safetensors or b.safetensors.*renamed") as caught:
        fetch(Preset("gone", "", (file,)))
    assert caught.value.code == "not_found"


def test_a_closed_repository_names_the_token_and_the_page(hub, fetch):
    hub.token = "hf_right"
    for token in (None, "hf_wrong"):
        with pytest.raises(CheckpointError, match="HF_TOKEN") as caught:
            fetch(token=token)
        assert f"{hub.endpoint}/{REPO}" in caught.value.message


def test_a_repository_that_is_gone(fetch):
    with pytest.raises(CheckpointError, match="owner/other"):
        fetch(Preset("gone", "", (RemoteFile("owner/other", "x", "vae", 0),)))


def test_nobody_listens(tmp_path):
    hub = Hub("http://127.0.0.1:9", attempts=2, pause=0.01)
    with pytest.raises(CheckpointError, match="HF_ENDPOINT") as caught:
        pull(BOTH, cache=tmp_path, hub=hub)
    assert caught.value.code == "hub_unreachable"


def test_something_that_is_no_hub(hub, fetch):
    hub.fail("HEAD", "config.json", status=204)
    with pytest.raises(CheckpointError, match="does not answer like a Hugging Face hub"):
        fetch()


def test_offline_uses_what_is_there_and_names_what_is_not(fetch, monkeypatch):
    from huggingface_hub import constants

    fetch()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch().downloaded == 0
    with pytest.raises(CheckpointError, match=r"1 of 1 files.*HF_HUB_OFFLINE"):
        fetch(Preset("x", "", (RemoteFile(REPO, "new", "vae", 1),)))


def test_the_disk_is_checked_before_the_first_byte(hub, fetch, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=100_000))
    with pytest.raises(NoSpaceError, match="GiB are free") as caught:
        fetch()
    assert caught.value.exit_code == 6
    assert not hub.gets()


_LIMITED = """
import resource, signal, sys
from pathlib import Path
from infinite_talk.errors import NoSpaceError
from infinite_talk.weights.hub.pull import pull
from infinite_talk.weights.hub.remote import Hub
from tests.unit.test_hub import BOTH
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    pull(BOTH, cache=Path(sys.argv[2]), hub=Hub(sys.argv[1], pause=0.01))
except NoSpaceError as error:
    print(error.message)
"""


@pytest.mark.skipif(os.name != "posix", reason="limits of file sizes")
def test_a_disk_that_fills_up_keeps_what_arrived(hub, fetch, tmp_path):
    command = [sys.executable, "-c", _LIMITED, hub.endpoint, str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "disk is full" in done.stdout
    assert "is kept" in done.stdout
    (partial,) = (tmp_path / "cache").rglob("*.incomplete")
    assert partial.stat().st_size == 100_000
    assert fetch().paths[WEIGHTS.key].read_bytes() == BIG
    assert hub.gets()[-1].headers["range"] == "bytes=100000-"


def test_two_pulls_at_once_fetch_each_file_once(hub, fetch):
    hub.fail("GET", "weights.safetensors", after=1000, stall=True)  # the first one is slow
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: fetch(timeout=0.3), range(2))
    assert first.paths == second.paths
    assert first.paths[WEIGHTS.key].read_bytes() == BIG
    assert [one.headers.get("range") for one in hub.gets() if "/storage/" in one.path] == [
        None,
        "bytes=1000-",
    ]


def test_a_disk_without_links_holds_a_file_once(fetch, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.file_download.are_symlinks_supported", lambda _=None: False)
    path = fetch().paths[WEIGHTS.key]
    assert path.read_bytes() == BIG and not path.is_symlink()
    assert [p for p in (tmp_path / "cache").rglob("*") if p.is_file() and p.stat().st_size == len(BIG)] == [
        path
    ]
    assert fetch().downloaded == 0


def test_every_request_for_bytes_begins_at_the_hub(hub, fetch):
    """Addresses in storage are good for an hour, and a download may take longer."""
    hub.fail("GET", "weights.safetensors", after=1000, times=2)
    fetch()
    places = [one.path.split("/")[1] for one in hub.gets() if one.path.endswith("weights.safetensors")]
    assert places == ["owner", "storage"] * 3


def test_a_change_upstream_is_noted(hub, fetch):
    file = RemoteFile(REPO, WEIGHTS.path, "vae", len(BIG), sha256="0" * 64)
    assert "was changed by its owner" in fetch(Preset("x", "", (file,))).notes[0]


def test_a_damaged_lock_file(tmp_path):
    (tmp_path / LOCK).write_text("{")
    with pytest.raises(CheckpointError, match="delete it"):
        read_lock(tmp_path)
    write_lock(tmp_path, {})
    assert read_lock(tmp_path) == {}


# The catalogue.


def test_presets_are_complete_and_have_licences():
    assert len({one.name for one in PRESETS}) == len(PRESETS)
    for one in PRESETS:
        assert one.summary and one.licences
        assert (one.gpu_memory is not None) == one.complete
        has_speech = any("quant_models/infinitetalk" in file.path for file in one.files)
        assert not one.complete or one.of("adapter") or has_speech
    for file in catalogued():
        assert file.repo in LICENCES
        assert file.sha256 is None or file.exact
        assert not file.path.startswith("/") and ".." not in file.path


def test_the_parts_of_the_catalogue_are_those_of_checkpoints():
    from infinite_talk.weights.checkpoint import Part

    assert {file.part for file in catalogued()} <= {*Part, "tokenizer", "config"}


def test_known_traps_are_in_the_catalogue():
    files = {file.path: file for file in catalogued()}
    assert "InfiniteTalk/Wan2_1-InfiniTetalk-Single_fp16.safetensors" in files  # as it is spelt there
    speech = [file for file in catalogued() if file.repo.startswith("TencentGameMate")]
    assert {file.revision for file in speech} == {"refs/pr/1"}  # safetensors are in no branch
    cased = files["I2V/Wan2_1-I2V-14B-480p_fp8_e4m3fn_scaled_KJ.safetensors"]
    assert any("480P" in other for other in cased.alternatives)
    assert not any("single_fp8_lora" in path for path in files)  # assumed by others, does not exist


def test_the_page_about_models_names_every_preset():
    page = (Path(__file__).resolve().parents[2] / "docs" / "models.md").read_text("utf-8")
    assert not [one.name for one in PRESETS if f"`{one.name}`" not in page]


def test_unknown_presets_name_those_that_come_near():
    with pytest.raises(UsageError, match="kijai-fp8-scaled"):
        preset("kijai-fp8")


def test_a_file_in_a_folder_wins_over_the_cache(tmp_path, fetch):
    fetch()
    place = ModelsFolder(tmp_path / "models")
    path = place.place(WEIGHTS, WEIGHTS.path)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    found = installed(WEIGHTS, (place, HubCache(tmp_path / "cache")))
    assert found is not None and found[1] == path
    assert isinstance(found[1], Path)
