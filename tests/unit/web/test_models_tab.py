"""The tab Models: what stands in the fields is what the settings say, and only files that were found can be named."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinite_talk import (
    Attention,
    Compile,
    Device,
    Gemm,
    LoRA,
    Memory,
    ModelFiles,
    Precision,
    Quantization,
    Settings,
    UsageError,
)
from infinite_talk.frontends.web.model_form import ModelForm, model_form_of, settings_of
from infinite_talk.frontends.web.models import profile_name, report_html
from infinite_talk.frontends.web.panels import Panels
from infinite_talk.jobs.adviser import Choice, Machine, ModelFile, Runs

FILES = [f"/models/{name}.safetensors" for name in "abc"]
paths = st.none() | st.sampled_from(FILES).map(Path)
switches = st.sampled_from([None, True, False])
loras = st.lists(
    st.one_of(
        st.builds(LoRA, path=st.sampled_from(FILES).map(Path), strength=st.sampled_from([1.0, 0.5, -1.25])),
        st.builds(
            LoRA, path=st.sampled_from(FILES).map(Path), strength=st.just((1.0, 0.5)), merge=st.just(False)
        ),
    ),
    max_size=4,
).map(tuple)
settings = st.builds(
    Settings,
    model=paths,
    files=st.builds(
        ModelFiles,
        transformer=paths.map(lambda path: () if path is None else (path,)),
        **dict.fromkeys(("adapter", "vae", "tiny_vae", "text", "vision", "speech"), paths),
    ),
    loras=loras,
    device=st.sampled_from(Device),
    precision=st.sampled_from(Precision),
    vae_precision=st.sampled_from(Precision),
    quantization=st.sampled_from(Quantization),
    attention=st.sampled_from(Attention),
    tf32=switches,
    gemm=st.sampled_from(Gemm),
    fuse_qkv=st.booleans(),
    contiguous=st.booleans(),
    compile=st.none()
    | st.builds(Compile, mode=st.sampled_from(["default", "max-autotune"]), dynamic=st.booleans()),
    strict=st.booleans(),
    vram=st.none() | st.sampled_from([8.0, 23.5]),
    memory=st.builds(
        Memory,
        blocks_to_swap=st.none() | st.integers(0, 40),
        prefetch_blocks=st.none() | st.integers(0, 8),
        vae_tiling=switches,
        keep_encoders=switches,
    ),
    threads=st.none() | st.integers(1, 64),
    crf=st.integers(0, 51),
)


@given(settings)
def test_settings_survive_the_fields(wanted):
    """Whatever the fields show, they bring back; nothing on the page is without effect."""
    assert settings_of(model_form_of(wanted), Settings(), FILES) == wanted


def test_every_field_has_an_effect():
    base, plain = Settings(), ModelForm()
    changed = {"lora_1": FILES[0], "compile": True}
    values = {bool: True, str: "yes", float: 3.0}
    words = {"quantization": "int8", "attention": "sdpa", "device": "cpu", "gemm": "cublas"}
    words |= {"precision": "bf16", "vae_precision": "bf16", "compile_backend": "cudagraphs"}
    words |= {"compile_mode": "max-autotune", "model": FILES[0]}
    words |= dict.fromkeys(
        ("transformer", "adapter", "vae", "tiny_vae", "text", "vision", "speech"), FILES[0]
    )
    for field in fields(ModelForm):
        name = field.name
        if name == "merge":
            value = False
        elif name.startswith(("lora_", "strength_")):
            number = name[-1]
            value = FILES[1] if name.startswith("lora_") else "0.5"
            changed |= {f"lora_{number}": FILES[0]}
        else:
            value = words.get(
                name,
                values[
                    type(field.default)
                    if not isinstance(field.default, int) or isinstance(field.default, bool)
                    else float
                ],
            )
        before = settings_of(replace(plain, **changed), base, FILES)
        after = settings_of(
            replace(plain, **{**changed, name: not field.default if name == "compile" else value}),
            base,
            FILES,
        )
        assert (before != after) is not (name == "compile"), name


def test_only_found_files_can_be_named():
    for name in ("model", "transformer", "vae", "lora_2"):
        with pytest.raises(UsageError, match="not among the files that were found") as raised:
            settings_of(ModelForm(**{name: "/etc/passwd"}), Settings(), FILES)
        assert raised.value.code == "model_file_unknown"


@pytest.mark.parametrize(
    "form",
    [
        ModelForm(quantization="fp3"),
        ModelForm(tf32="maybe"),
        ModelForm(crf=99),
        ModelForm(vram=float("nan")),
        ModelForm(compile=True, compile_mode="fast"),
        ModelForm(lora_1=FILES[0], strength_1="much"),
    ],
)
def test_what_is_no_choice_is_refused(form):
    with pytest.raises(UsageError):
        settings_of(form, Settings(), FILES)


@pytest.mark.parametrize(
    "lacking",
    [
        Settings(loras=(LoRA(path=Path("a")),) * 5),
        Settings(loras=(LoRA(path=Path("a"), blocks=(1,)),)),
        Settings(loras=(LoRA(path=Path("a")), LoRA(path=Path("a"), merge=False))),
        Settings(files=ModelFiles(transformer=(Path("a"), Path("b")))),
    ],
)
def test_what_the_page_has_no_field_for_is_said_and_not_lost(lacking):
    with pytest.raises(UsageError, match="the page has no fields"):
        model_form_of(lacking)


def test_names_of_profiles():
    assert profile_name("  my   card ") == "my card"
    for bad in ("", "   ", "a" * 61, "a\u202eb"):
        with pytest.raises(UsageError, match="A profile needs a name"):
            profile_name(bad)


class Known:
    """A store and a desk with profiles only."""

    def __init__(self, **profiles: Settings) -> None:
        self.store = self
        self.profiles = lambda: profiles


def panels(**profiles: Settings) -> Panels:
    return Panels(Known(**profiles), None, Settings(model=Path("/own"), crf=20))


def test_a_profile_is_found_by_its_name_and_default_may_be_changed():
    assert panels().settings("").crf == panels().settings("default").crf == 20
    assert panels(default=Settings(crf=1)).settings("").crf == 1
    assert panels(fast=Settings(crf=2), default=Settings()).profiles() == ("fast",)
    with pytest.raises(UsageError, match="no settings named 'slow'"):
        panels(fast=Settings()).settings("slow")


def test_paths_of_the_server_and_found_ones_are_known():
    known = panels().known([ModelFile("vae", "/models/a", "a", "bf16")])
    assert known == {"/own", "/models/a"}


def test_what_runs_and_why_is_told_escaped():
    note = "sageattn_3_fp4 needs a Blackwell GPU; this is <b>, using sageattn_3"
    runs = Runs("m 1", "card", "bf16", "int8", "sageattn_3", "cuda, bf16", (note,))
    machine = Machine("card", (Choice("sdpa", True, True, True, 1.5, ""),), ())
    html = report_html(panels(), "en", runs, machine)
    assert "sageattn_3_fp4 needs a Blackwell GPU; this is &lt;b&gt;, using sageattn_3" in html
    assert "1.5 ms" in html
    assert "Everything runs as it was asked for" not in html
    assert "一切按所选运行" in report_html(panels(), "zh", replace(runs, notes=()), machine)
