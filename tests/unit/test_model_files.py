"""Readers of PyTorch and GGUF files beside safetensors, and what they make of damaged and hostile ones."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import psutil
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infinite_talk.errors import CheckpointError
from infinite_talk.ops.linear import Packed
from infinite_talk.ops.linear.gguf import FORMATS
from infinite_talk.weights import pickles
from infinite_talk.weights.gguf import GGUFFile, read_gguf_metadata
from infinite_talk.weights.inspection import identify
from infinite_talk.weights.reader import check_finite
from infinite_talk.weights.sources import open_tensors
from tests.dialects import write_gguf, write_plain, write_pth

STATE = {
    "patch_embedding.weight": torch.randn(4, 2, 1, 2, 2, generator=torch.Generator().manual_seed(0)),
    "blocks.0.ffn.0.weight": torch.randn(6, 256, generator=torch.Generator().manual_seed(1)),
    "blocks.0.ffn.2.weight": torch.randn(8, 32, generator=torch.Generator().manual_seed(2)),
    "blocks.0.ffn.0.bias": torch.randn(6, generator=torch.Generator().manual_seed(3)),
}


def value_of(value: torch.Tensor | Packed) -> torch.Tensor:
    return value.unpack() if isinstance(value, Packed) else value.float()


class TestPickles:
    @pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
    def test_tensors_by_name_flat_or_wrapped(self, tmp_path: Path, wrapper: str | None) -> None:
        expected = write_pth(tmp_path / "m.pth", STATE, wrapper)
        found = open_tensors(tmp_path / "m.pth", allow_pickle=True)
        assert found.kinds == ("pickle",)
        assert found.shapes == {name: tuple(tensor.shape) for name, tensor in STATE.items()}
        assert set(found.dtypes.values()) == {"F32"}
        assert found.sizes["blocks.0.ffn.0.weight"] == 6 * 256 * 4
        assert all(torch.equal(value_of(found[name]), expected[name]) for name in expected)

    def test_the_format_before_zip_is_read_too(self, tmp_path: Path) -> None:
        torch.save(STATE, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
        found = open_tensors(tmp_path / "old.bin", allow_pickle=True)
        assert torch.equal(value_of(found["blocks.0.ffn.0.bias"]), STATE["blocks.0.ffn.0.bias"])

    def test_an_old_torch_is_refused_unless_the_file_is_trusted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_pth(tmp_path / "m.pth", STATE)
        monkeypatch.setattr(pickles, "torch_version", lambda: (2, 9))
        with pytest.raises(CheckpointError, match=r"2\.10") as caught:
            open_tensors(tmp_path / "m.pth")
        assert caught.value.code == "checkpoint_pickle"
        assert set(open_tensors(tmp_path / "m.pth", allow_pickle=True)) == set(STATE)
        monkeypatch.setattr(pickles, "torch_version", lambda: (2, 10))
        assert set(open_tensors(tmp_path / "m.pth")) == set(STATE)

    @pytest.mark.filterwarnings("ignore:Detected pickle protocol")
    @pytest.mark.parametrize("zipped", [True, False])
    def test_code_in_a_pickle_never_runs(self, tmp_path: Path, zipped: bool) -> None:
        path, mark = tmp_path / "evil.pth", tmp_path / "ran"

        class Evil:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                return os.system, (f"touch {mark}",)

        if zipped:
            torch.save({"weight": torch.zeros(2), "evil": Evil()}, path)
        else:
            path.write_bytes(pickle.dumps(Evil()))
        with pytest.raises(CheckpointError, match="could run code") as caught:
            open_tensors(path, allow_pickle=True)
        assert caught.value.exit_code == 4
        assert not mark.exists()

    def test_what_holds_no_tensors_is_refused(self, tmp_path: Path) -> None:
        torch.save([torch.zeros(2)], tmp_path / "list.pth")
        torch.save({"epoch": 3}, tmp_path / "none.pth")
        for name in ("list.pth", "none.pth"):
            with pytest.raises(CheckpointError, match="no tensors by name"):
                open_tensors(tmp_path / name, allow_pickle=True)

    def test_cut_short_and_compressed_archives_are_refused(self, tmp_path: Path) -> None:
        write_pth(tmp_path / "m.pth", STATE)
        whole = (tmp_path / "m.pth").read_bytes()
        for size in (30, len(whole) // 2, len(whole) - 10):
            (tmp_path / "cut.pth").write_bytes(whole[:size])
            with pytest.raises(CheckpointError, match="cut short"):
                open_tensors(tmp_path / "cut.pth", allow_pickle=True)
        with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", b"\0" * 1_000_000)  # some hundred bytes on disk
        with pytest.raises(CheckpointError, match="no file that PyTorch writes"):
            open_tensors(tmp_path / "bomb.pth", allow_pickle=True)


class TestGGUF:
    @pytest.mark.parametrize("kind", sorted(FORMATS))
    def test_every_format_comes_back(self, tmp_path: Path, kind: str) -> None:
        expected = write_gguf(tmp_path / "m.gguf", STATE, kind)
        found = open_tensors(tmp_path / "m.gguf")
        assert found.kinds == ("gguf",)
        assert found.metadata["general.architecture"] == "wan"
        assert found.shapes == {name: tuple(tensor.shape) for name, tensor in STATE.items()}
        assert found.dtypes["blocks.0.ffn.0.weight"] == kind
        assert found.dtypes["blocks.0.ffn.2.weight"] == (kind if FORMATS[kind].block == 32 else "Q8_0")
        assert isinstance(found["blocks.0.ffn.0.weight"], Packed)
        assert all(torch.equal(value_of(found[name]), expected[name]) for name in expected)

    @pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
    def test_plain_types_come_as_tensors(self, tmp_path: Path, kind: str) -> None:
        expected = write_gguf(tmp_path / "m.gguf", STATE, kind)
        value = open_tensors(tmp_path / "m.gguf")["blocks.0.ffn.0.weight"]
        assert isinstance(value, torch.Tensor)
        assert value.dtype == {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[kind]
        assert torch.equal(value.float(), expected["blocks.0.ffn.0.weight"])

    @pytest.mark.parametrize("flat", [True, False])
    def test_five_axes_flat_or_not(self, tmp_path: Path, flat: bool) -> None:
        expected = write_gguf(tmp_path / "m.gguf", STATE, "Q8_0", flat=flat)
        found = GGUFFile(tmp_path / "m.gguf")["patch_embedding.weight"]
        assert isinstance(found, torch.Tensor)
        assert torch.equal(found.float(), expected["patch_embedding.weight"])

    def test_vocabularies_are_skipped_and_there_when_asked_for(self, tmp_path: Path) -> None:
        write_gguf(tmp_path / "m.gguf", STATE)
        assert "tokenizer.ggml.tokens" not in GGUFFile(tmp_path / "m.gguf").metadata
        assert read_gguf_metadata(tmp_path / "m.gguf")["tokenizer.ggml.tokens"] == ["a", "bc", "def"] * 40

    def test_a_type_that_is_not_known_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "m.gguf"
        path.write_bytes(gguf_bytes(tensors=[(b"w", (32,), 16, 0)]))
        with pytest.raises(CheckpointError, match=r"w in type 16.*Q8_0"):
            open_tensors(path)

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (struct.pack("<4sIQQ", b"GGUF", 1, 0, 0), "version 1"),
            (struct.pack(">4sIQQ", b"GGUF", 3, 0, 0), "version"),
            (struct.pack("<4sIQQ", b"GGUF", 3, 2**63, 0), "tensors"),
            (struct.pack("<4sIQQ", b"GGUF", 3, 0, 2**63), "entries"),
            (struct.pack("<4sIQQQ", b"GGUF", 3, 0, 1, 2**40), "letters in a name"),
            (struct.pack("<4sIQQQ1sIIQ", b"GGUF", 3, 0, 1, 1, b"k", 9, 4, 2**50), "elements"),
            (struct.pack("<4sIQQQ1sIQ", b"GGUF", 3, 0, 1, 1, b"k", 8, 2**24), "cut short"),
            (struct.pack("<4sIQQQ1sI", b"GGUF", 3, 0, 1, 1, b"k", 77), "metadata of type 77"),
            (struct.pack("<4sIQQQ1sI", b"GGUF", 3, 1, 0, 1, b"w", 2**31), "axes"),
            (b"GGUF\x03", "cut short"),
        ],
    )
    def test_absurd_headers_are_refused_at_once(self, tmp_path: Path, content: bytes, reason: str) -> None:
        (tmp_path / "m.gguf").write_bytes(content)
        with pytest.raises(CheckpointError, match=reason) as caught:
            open_tensors(tmp_path / "m.gguf")
        assert caught.value.code == "checkpoint_corrupt"

    @pytest.mark.parametrize(
        "tensor",
        [(b"w", (2**40, 2**40), 0, 0), (b"w", (4,), 0, 2**62), (b"w", (7,), 8, 0), (b"w", (), 8, 0)],
    )
    def test_absurd_tensors_are_refused(
        self, tmp_path: Path, tensor: tuple[bytes, tuple[int, ...], int, int]
    ) -> None:
        (tmp_path / "m.gguf").write_bytes(gguf_bytes(tensors=[tensor]))
        with pytest.raises(CheckpointError, match="w"):
            open_tensors(tmp_path / "m.gguf")

    def test_a_file_cut_short_after_opening_is_noticed(self, tmp_path: Path) -> None:
        path = tmp_path / "m.gguf"
        write_gguf(path, STATE)
        found = open_tensors(path)
        path.write_bytes(path.read_bytes()[:-5000])
        with pytest.raises(CheckpointError, match="cut short"):
            _ = [found[name] for name in found]


def gguf_bytes(tensors: list[tuple[bytes, tuple[int, ...], int, int]]) -> bytes:
    """A header with tensors ``(name, sizes, type, offset)`` and some bytes of data."""
    content = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), 0)
    for name, sizes, kind, offset in tensors:
        content += struct.pack("<Q", len(name)) + name + struct.pack("<I", len(sizes))
        content += struct.pack(f"<{len(sizes)}QIQ", *sizes, kind, offset)
    return content + bytes(256)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("kind", ["safetensors", "gguf", "pth"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_gives_anything_but_a_named_error(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    """Bytes of the header are changed, or the file is cut: it opens, or there is a ``CheckpointError``."""
    path = tmp_path / "whole"
    if not path.exists():
        small = {name: tensor[:, :32] if tensor.dim() == 2 else tensor for name, tensor in STATE.items()}
        {"safetensors": write_plain, "gguf": write_gguf, "pth": write_pth}[kind](path, small)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    for _ in range(data.draw(st.integers(0, 3))):
        if content:
            place = data.draw(st.integers(0, min(len(content), 700) - 1))
            content[place] = data.draw(st.integers(0, 255))
    (tmp_path / "damaged").write_bytes(content)
    try:
        found = open_tensors(tmp_path / "damaged", allow_pickle=True)
        for name in found:
            _ = found[name]
    except CheckpointError as error:
        assert "damaged" in error.message


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html><body>404</body></html>" * 9, "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 9\n", "git lfs pull"),
        (b"\x00" * 100, "safetensors, GGUF or PyTorch"),
        ((99_999_999).to_bytes(8, "little") + b"{" + bytes(100), "cut short"),
        ((13).to_bytes(8, "little") + b'{"a":{"x":1}}', "header"),
    ],
)
def test_what_is_no_model_is_named_and_identified(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=reason) as caught:
        open_tensors(path)
    assert caught.value.exit_code == 4
    seen = identify(path)
    assert seen.part is None
    assert seen.reason == caught.value.message
    assert seen.code == "checkpoint_corrupt"


def test_the_content_tells_the_kind_not_the_name(tmp_path: Path) -> None:
    write_gguf(tmp_path / "a.safetensors", STATE)
    write_plain(tmp_path / "b.gguf", STATE)
    write_pth(tmp_path / "c.gguf", STATE)
    found = open_tensors(
        *(tmp_path / name for name in ("a.safetensors", "b.gguf", "c.gguf")), allow_pickle=True
    )
    assert found.kinds == ("gguf", "safetensors", "pickle")


def test_a_header_whose_length_looks_like_a_pickle(tmp_path: Path) -> None:
    """The first byte of a safetensors file is the lowest of the header's length: 128 is that of a pickle."""
    entry = {"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}
    text = json.dumps(entry).ljust(128).encode()
    (tmp_path / "m.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"\x07")
    assert value_of(open_tensors(tmp_path / "m.safetensors")["a"]).tolist() == [7]


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        open_tensors(tmp_path / "absent.gguf")
    assert caught.value.code == "checkpoint_missing"


@pytest.mark.parametrize("kind", ["*.gguf", "*.bin"])
def test_a_folder_without_safetensors_gives_its_other_files(tmp_path: Path, kind: str) -> None:
    write = write_gguf if kind == "*.gguf" else write_pth
    write(tmp_path / kind.replace("*", "model"), STATE)
    assert set(open_tensors(tmp_path, allow_pickle=True)) == set(STATE)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]
)
def test_nan_and_infinity_are_found_in_every_dtype(dtype: torch.dtype) -> None:
    numbers = torch.tensor([0.0, -1.5, 448.0, 0.001, -0.0]).to(dtype)
    check_finite("w", numbers)
    bad = [float("nan")] if dtype == torch.float8_e4m3fn else [float("nan"), float("inf"), float("-inf")]
    for number in bad:
        numbers = numbers.clone()
        numbers[3] = number
        with pytest.raises(CheckpointError, match="w holds NaN"):
            check_finite("w", numbers)
    check_finite("n", torch.tensor([3, 4]))
    check_finite("none", torch.empty(0))


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_what_counts_as_finite_in_float8_is_so_for_all_bytes(dtype: torch.dtype) -> None:
    for byte in range(256):
        number = torch.tensor([byte], dtype=torch.uint8).view(dtype)
        if number.float().isfinite().all():
            check_finite("w", number)
        else:
            with pytest.raises(CheckpointError):
                check_finite("w", number)


class TestMapping:
    def test_a_file_larger_than_the_memory_opens(self, tmp_path: Path) -> None:
        """Linux refuses to map as much for writing as it has not got; only what is looked at takes memory."""
        nbytes = 2 * (psutil.virtual_memory().total + psutil.swap_memory().total)
        entries = {
            "huge": {"dtype": "U8", "shape": [nbytes], "data_offsets": [0, nbytes]},
            "small": {"dtype": "F32", "shape": [2], "data_offsets": [nbytes, nbytes + 8]},
        }
        header = json.dumps(entries).encode()
        path = tmp_path / "m.safetensors"
        with path.open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            try:
                file.truncate(8 + len(header) + nbytes + 8)  # a hole
            except OSError:
                pytest.skip("this file system has no files of that size")
        found = open_tensors(path)
        assert found["small"].tolist() == [0, 0]
        assert found["huge"][-1] == 0

    def test_writing_to_a_tensor_does_not_reach_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "m.safetensors"
        expected = write_plain(path, STATE)
        before = path.read_bytes()
        for name in expected:
            value = open_tensors(path)[name]
            assert isinstance(value, torch.Tensor)
            value.add_(1)
        assert path.read_bytes() == before
        assert torch.equal(
            value_of(open_tensors(path)["blocks.0.ffn.0.bias"]), expected["blocks.0.ffn.0.bias"]
        )

    def test_tensors_between_the_places_of_their_numbers(self, tmp_path: Path) -> None:
        """Other programs do not align, and a float32 may begin anywhere."""
        entries = {
            "byte": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
            "number": {"dtype": "F32", "shape": [2], "data_offsets": [1, 9]},
            "none": {"dtype": "F32", "shape": [0, 3], "data_offsets": [9, 9]},
        }
        header = json.dumps(entries).encode()
        data = b"\x07" + struct.pack("<2f", 1.5, -2.0)
        (tmp_path / "m").write_bytes(len(header).to_bytes(8, "little") + header + data)
        found = open_tensors(tmp_path / "m")
        assert found["number"].tolist() == [1.5, -2.0]
        assert found["none"].shape == (0, 3)

    @pytest.mark.parametrize(
        "entry",
        [
            {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]},
            {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]},
            {"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]},
            {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
            {"dtype": "F32", "shape": [0], "data_offsets": [8, 8]},
            {"dtype": "F7", "shape": [2], "data_offsets": [0, 8]},
        ],
    )
    def test_headers_that_lie_are_refused(self, tmp_path: Path, entry: dict[str, object]) -> None:
        header = json.dumps({"a": entry}).encode()
        (tmp_path / "m").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
        with pytest.raises(CheckpointError, match=r"not a valid|F7"):
            open_tensors(tmp_path / "m")
