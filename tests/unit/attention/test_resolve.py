"""What runs for what was asked for: found without importing, one line for a fallback, errors that help."""

from __future__ import annotations

import re
import sys

import pytest
import torch

from infinite_talk.errors import CapabilityError
from infinite_talk.ops.attention import KERNELS, SUBSTITUTES, eager, resolve, sdpa
from infinite_talk.ops.attention.base import GPUs, HeadSizes, Source
from infinite_talk.ops.attention.machine import Here
from infinite_talk.ops.attention.packages import has_module, installed
from infinite_talk.ops.attention.registry import Unusable, expected
from infinite_talk.settings import Attention
from tests.attention import errors
from tests.contract.source import ROOT
from tests.unit.attention.packages import (
    BLACKWELL,
    FLASH_ATTN_3,
    GEFORCE,
    HOPPER,
    SAGE,
    SAGE_3,
    Machine,
)

CPU, BF16 = torch.device("cpu"), torch.bfloat16
SAGE_GPUS = "an Ampere, Ada, Hopper or RTX Blackwell GPU (8.0, 8.6, 8.9, 9.0, 12.x)"
FAILS = "\ndef sageattn(*_, **__):\n    raise RuntimeError('no kernel image is available')"


def test_every_name_that_can_be_chosen_has_an_entry() -> None:
    assert set(KERNELS) == {name.value for name in Attention} - {"auto"}


@pytest.mark.parametrize("name", KERNELS)
def test_every_entry_says_how_to_get_it(name: str) -> None:
    kernel = KERNELS[name]
    assert kernel.name == name and kernel.get.endswith(".") and kernel.title
    assert kernel.exact or Attention(name) in SUBSTITUTES, "only approximate kernels have a substitute"


@pytest.mark.parametrize(("asked", "kernel"), [("auto", sdpa), ("sdpa", sdpa), ("eager", eager)])
@pytest.mark.parametrize("dtype", [torch.float32, BF16])
def test_torchs_own_run_everywhere(asked: str, kernel: object, dtype: torch.dtype) -> None:
    found = resolve(Attention(asked), CPU, dtype, strict=True)
    assert found.kernel is kernel and found.note is None and found.version.startswith("torch")


@pytest.mark.parametrize(
    ("asked", "gpu", "there", "runs", "why"),
    [
        ("sageattn_3_fp4", HOPPER, "sage", "sageattn", "needs a Blackwell GPU (10.0+), this is H100 (9.0)"),
        ("sageattn_3_fp4", HOPPER, "", "sdpa", "needs a Blackwell GPU (10.0+), this is H100 (9.0)"),
        ("sageattn_3_fp4", BLACKWELL, "sage3", "sageattn_3_fp4", None),
        ("sageattn_3", GEFORCE, "sage3", "sageattn_3", None),
        (
            "sageattn_3",
            GEFORCE,
            "sage",
            "sageattn",
            "needs the package sageattn3 or sageattn, which is not installed",
        ),
        ("sageattn", HOPPER, "sage", "sageattn", None),
        ("sageattn", BLACKWELL, "sage", "sdpa", f"needs {SAGE_GPUS}, this is B200 (10.0)"),
    ],
)
def test_the_chain_falls_back_with_one_line(
    machine: Machine, asked: str, gpu: tuple[str, tuple[int, int]], there: str, runs: str, why: str | None
) -> None:
    machine.gpu(*gpu)
    if there == "sage":
        machine.install("sageattention", "sageattention", SAGE, "2.2.0")
    if there == "sage3":
        machine.install("sageattn3", "sageattn3", SAGE_3)
    found = resolve(Attention(asked), CPU, BF16, strict=False, head_dim=128)
    note = f"{asked} {why}; {runs} runs instead." if why else None
    assert (found.name, found.note) == (runs, note)
    if note:
        with pytest.raises(CapabilityError, match=asked):
            resolve(Attention(asked), CPU, BF16, strict=True, head_dim=128)


def test_the_wanted_dtype_is_said_at_the_door(machine: Machine) -> None:
    machine.gpu(*HOPPER)
    machine.install("sageattention", "sageattention", SAGE, "2.2.0")
    machine.install("fa3-fwd", "fa3_fwd_interface", FLASH_ATTN_3)
    found = resolve(Attention.SAGEATTN, CPU, torch.float32, strict=False)
    assert found.note == "sageattn takes bf16 and fp16, this run is fp32; sdpa runs instead."
    with pytest.raises(CapabilityError, match=r"this run is fp32\. Choose precision bf16"):
        resolve(Attention.FLASH_ATTN_3, CPU, torch.float32, strict=False)


@pytest.mark.parametrize("name", ["flash_attn_2", "flash_attn_3", "flash_attn_4", "xformers"])
def test_others_are_errors_with_the_way_to_get_them(machine: Machine, name: str) -> None:
    machine.gpu(*HOPPER)
    with pytest.raises(CapabilityError, match="not installed") as caught:
        resolve(Attention(name), CPU, BF16, strict=False)
    assert KERNELS[name].get in caught.value.message and caught.value.code == "attention_unavailable"


def test_auto_takes_flash_attention_3_on_hopper(machine: Machine) -> None:
    machine.install("fa3-fwd", "fa3_fwd_interface", FLASH_ATTN_3, "0.0.3")
    machine.gpu(*HOPPER)
    found = resolve(Attention.AUTO, CPU, BF16, strict=True)
    assert (found.name, found.version, found.note) == ("flash_attn_3", "fa3-fwd 0.0.3", None)
    machine.gpu(*BLACKWELL)
    assert resolve(Attention.AUTO, CPU, BF16, strict=True).name == "sdpa"


def test_auto_never_takes_an_approximate_kernel(machine: Machine) -> None:
    machine.gpu(*BLACKWELL)
    machine.install("sageattn3", "sageattn3", SAGE_3)
    machine.install("sageattention", "sageattention", SAGE, "2.2.0")
    assert KERNELS[resolve(Attention.AUTO, CPU, BF16, strict=False).name].exact


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (
            "raise ImportError('undefined symbol: _ZN3c10\\nmore')",
            "does not import: undefined symbol: _ZN3c10;",
        ),
        ("import a_package_that_is_missing", "does not import: No module named 'a_package_that_is_missing';"),
        ("", "does not import: module 'sageattention' has no attribute 'sageattn';"),
        (FAILS, "fails here: no kernel image is available;"),
        (SAGE.replace("return tokens", "return -tokens"), "computes something else here (relative error 2);"),
        (SAGE.replace("return tokens_first(q, k, v)", "return q * float('nan')"), "(relative error nan);"),
    ],
)
def test_a_broken_package_is_no_package(machine: Machine, code: str, says: str) -> None:
    machine.gpu(*HOPPER)
    machine.install("sageattention", "sageattention", code, "2.2.0")
    found = resolve(Attention.SAGEATTN, CPU, BF16, strict=False)
    assert found.kernel is sdpa and found.note
    assert "sageattn cannot run: sageattention 2.2.0 " in found.note and says in found.note
    assert "\n" not in found.note and found.note.endswith("; sdpa runs instead.")


def test_auto_says_that_an_installed_kernel_is_broken(machine: Machine) -> None:
    machine.gpu(*HOPPER)
    machine.install("fa3-fwd", "fa3_fwd_interface", "raise OSError('libcudart.so.12: cannot open')", "0.0.3")
    found = resolve(Attention.AUTO, CPU, BF16, strict=False)
    assert found.name == "sdpa" and found.note and "libcudart.so.12" in found.note


def test_the_older_of_two_versions_is_another_source(machine: Machine) -> None:
    """SageAttention 1 has fewer head sizes than 2, and its name and module are the same."""
    machine.install("sageattention", "sageattention", SAGE, "1.0.6")
    place = Here(CPU, (9, 0), "H100")
    one, two = KERNELS["sageattn"].sources[1], KERNELS["sageattn"].sources[0]
    assert installed(one) == "1.0.6" and installed(two) is None
    assert expected(KERNELS["sageattn"], place, BF16, 128) is one
    assert isinstance(expected(KERNELS["sageattn"], place, BF16, 80), Unusable)


def test_looking_imports_nothing(machine: Machine) -> None:
    """Also not the parents of a module: ``flash_attn`` of version 2 loads its CUDA code."""
    machine.install(
        "flash-attn-4", "flash_attn.cute.interface", "raise AssertionError('imported')", "4.0.0b36"
    )
    (machine.folder / "flash_attn" / "__init__.py").write_text("raise AssertionError('imported')")
    four, two = KERNELS["flash_attn_4"].sources[0], KERNELS["flash_attn_2"].sources[0]
    assert installed(four) == "4.0.0b36"
    assert installed(two) is None, "the folder is there, version 2 is not in it"
    assert not any(name.split(".")[0] == "flash_attn" for name in sys.modules)


def test_modules_are_found_like_python_finds_them() -> None:
    assert has_module("torch.nn.attention") and has_module("json")
    assert (
        not has_module("torch.nn.telepathy")
        and not has_module("no.such.thing")
        and not has_module("json.x.y")
    )


@pytest.mark.parametrize(
    ("version", "fits"), [("2.2.0", True), ("2.0.0.post1", True), ("1.0.6", False), ("3.0.0b1+cu13", False)]
)
def test_versions_are_compared_as_numbers(machine: Machine, version: str, fits: bool) -> None:
    machine.install("some-kernel", "some_kernel", "", version)
    source = Source(
        "some-kernel",
        "some_kernel",
        GPUs("a GPU", ()),
        HeadSizes(128),
        lambda: eager,
        since=(2,),
        before=(3,),
    )
    assert (installed(source) is not None) is fits


def test_a_resolved_kernel_agrees_with_the_definition(machine: Machine) -> None:
    machine.gpu(*HOPPER)
    machine.install("fa3-fwd", "fa3_fwd_interface", FLASH_ATTN_3)
    attend = resolve(Attention.FLASH_ATTN_3, CPU, BF16, strict=True).kernel
    q, k, v = (torch.randn(2, 3, n, 64).bfloat16() for n in (65, 33, 33))
    assert errors(attend, q, k, v).relative < KERNELS["flash_attn_3"].bound


def test_the_document_has_every_entry() -> None:
    """``docs/attention.md`` and the registry agree on what there is and what is exact."""
    written = (ROOT / "docs" / "attention.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (yes|no)", written, flags=re.MULTILINE))
    assert rows == {name: "yes" if kernel.exact else "no" for name, kernel in KERNELS.items()}
