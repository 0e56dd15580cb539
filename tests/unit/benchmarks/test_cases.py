"""What may be asked of ``infinite-talk bench``, and what is refused before anything is made."""

from __future__ import annotations

import pytest
import torch

from infinite_talk.benchmarks.case import Case, What, case_of, named, parse_size, read_cases
from infinite_talk.benchmarks.run import check
from infinite_talk.errors import CapabilityError, UsageError
from infinite_talk.settings import Attention, Device, Quantization
from infinite_talk.types import Size


def test_sizes_have_names_or_numbers():
    assert parse_size("480p") == Size(480, 832) and parse_size("720p") == Size(720, 1280)
    assert parse_size("64x96") == parse_size("64x96!") == Size(96, 64)
    for wrong in ("479p", "64x65", "0x64", "64", "x", "-64x64"):
        with pytest.raises(UsageError, match="is not known; expected 480p"):
            parse_size(wrong)


def test_a_file_lists_cases_over_its_defaults(tmp_path):
    path = tmp_path / "cases.toml"
    path.write_text(
        '[defaults]\nsize = "64x96"\nrepeats = 3\n'
        '[[case]]\nwhat = "vae"\n'
        '[[case]]\nname = "few"\nattention = "eager"\nquantization = "int8"\nrepeats = 1\n'
    )
    first, second = read_cases(path, Case(device=Device.CPU))
    assert first == Case(what=What.VAE, size=Size(96, 64), repeats=3, device=Device.CPU)
    assert (second.what, second.name, second.repeats) == (What.DIT, "few", 1)
    assert (second.attention, second.quantization) == (Attention.EAGER, Quantization.INT8)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"has no \[\[case\]\]"),
        ("case = 3", r"has no \[\[case\]\]"),
        ("[[case]]\nwhat = 'all'", "There is no what 'all'. Choose one of: dit, vae"),
        ("[[case]]\nsteps = 'many'", "steps is 'many'; expected int"),
        ("[[case]]\nrepeats = true", "repeats is True; expected int"),
        ("[[case]]\nspeed = 1", "A case has 'speed'; expected some of against,"),
        ("[[case]]\nattention = 'magic'", "There is no attention 'magic'"),
        ("[other]\nx = 1\n[[case]]", "has 'other'"),
        ("[[case", "cannot be read"),
    ],
)
def test_a_file_without_meaning_is_refused(tmp_path, text, says):
    path = tmp_path / "cases.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=says):
        read_cases(path, Case())


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"branches": 4}, "branches is 4; expected 1 to 3"),
        ({"people": 0}, "people is 0; expected 1 to 2"),
        ({"frames": 80}, r"80 frames was asked for; expected 4n\+1"),
        ({"warm_up": -1.0}, "warm_up is -1 s"),
        ({"what": "vae", "against": "diffusers"}, "--against compares the transformer"),
    ],
)
def test_numbers_without_meaning_are_refused(values, says):
    with pytest.raises(UsageError, match=says):
        case_of(values, Case())


def test_names_differ():
    cases = named([Case(), Case(what=What.VAE), Case(), Case(name="a"), Case(name="a")])
    assert [case.name for case in cases] == ["dit", "vae", "dit (2)", "a", "a (2)"]


def test_what_cannot_run_here_is_said_before_anything_is_made():
    with pytest.raises(UsageError, match="--model 14b has none"):
        check([Case(device=Device.CPU), Case(what=What.LOAD, model="14b", device=Device.CPU)])
    if not torch.cuda.is_available():
        with pytest.raises(CapabilityError, match="torch finds no NVIDIA GPU"):
            check([Case(device=Device.CUDA)])
