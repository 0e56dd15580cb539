"""Options from flags, variables and a file: which wins, and what is said about mistakes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinite_talk import UsageError
from infinite_talk.frontends.cli.config import Options, load_options, parse_assignments


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))


def write(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text, "utf-8")
    return path


def test_flag_wins_over_variable_over_file_over_default(tmp_path, monkeypatch):
    path = write(tmp_path, "steps = 3\nseed = 3\nsize = '480'\n")
    monkeypatch.setenv("INFINITE_TALK_STEPS", "5")
    monkeypatch.setenv("INFINITE_TALK_SEED", "5")
    options = load_options({"steps": 8, "shift": None}, config=path)
    assert (options.steps, options.seed, options.size, options.shift) == (8, 5, "480", None)
    assert set(options.given()) == {"steps", "seed", "size"}


def test_file_named_by_variable_and_users_own_file(tmp_path, monkeypatch):
    monkeypatch.setenv("INFINITE_TALK_CONFIG", str(write(tmp_path, "steps = 7\n")))
    assert load_options({}).steps == 7
    monkeypatch.delenv("INFINITE_TALK_CONFIG")
    own = tmp_path / "home" / "infinite_talk"
    own.mkdir(parents=True)
    write(own, "steps = 9\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    assert load_options({}).steps == 9


def test_model_folder_is_relative_to_the_file(tmp_path):
    path = write(tmp_path, "model = 'models/small'\n")
    assert load_options({}, config=path).model == tmp_path / "models" / "small"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stepz = 3", "Unknown key in .*stepz.* Did you mean steps"),
        ("[apg]\nmomentum = 1", "apg in .*valid boolean"),
        ("steps = 'many'", "steps in .*'many'"),
        ("crf = 99", "crf in .*less than or equal to 51"),
        ("steps = ", "not valid TOML"),
        ("layout = 'both'", "layout in .*'together' or 'in_turn'"),
    ],
)
def test_mistakes_in_the_file_name_the_key(tmp_path, text, said):
    with pytest.raises(UsageError, match=said):
        load_options({}, config=write(tmp_path, text))


def test_mistakes_in_variables_and_flags_name_them(monkeypatch):
    with pytest.raises(UsageError, match=r"--crf is 52"):
        load_options({"crf": 52})
    monkeypatch.setenv("INFINITE_TALK_CRF", "good")
    with pytest.raises(UsageError, match=r"INFINITE_TALK_CRF is 'good'"):
        load_options({})
    monkeypatch.setenv("INFINITE_TALK_STEP", "8")
    with pytest.raises(UsageError, match=r"INFINITE_TALK_STEP\. Did you mean INFINITE_TALK_STEPS"):
        load_options({"crf": 18})


def test_missing_file():
    with pytest.raises(UsageError, match=r"nowhere\.toml cannot be read"):
        load_options({}, config=Path("nowhere.toml"))


def test_assignments():
    said = parse_assignments(
        ["steps=8", "prompt=a man, smiling", "apg=true", "shift=2.5", "size='480'", "colour-strength=1"]
    )
    assert said == {
        "steps": 8,
        "prompt": "a man, smiling",
        "apg": True,
        "shift": 2.5,
        "size": "480",
        "colour_strength": 1,
    }
    with pytest.raises(UsageError, match="wants name=value"):
        parse_assignments(["steps"])


@given(
    st.dictionaries(
        st.sampled_from(sorted(Options.model_fields)), st.text() | st.integers() | st.floats() | st.booleans()
    )
)
def test_any_value_is_taken_or_refused_with_a_sentence(flags):
    try:
        options = load_options(flags, environ={})
    except UsageError as error:
        assert any(name.replace("_", "-") in error.message for name in flags)
    else:
        assert set(options.given()) <= set(flags)


def test_lists_of_files_in_a_variable_and_in_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("INFINITE_TALK_MODELS_DIR", f"/a{os.pathsep}/b")
    monkeypatch.setenv("INFINITE_TALK_LORA", "x.safetensors:0.5;y.safetensors")
    path = write(tmp_path, "transformer = ['one.safetensors', './two.safetensors']\nmodel = 'fp8'\n")
    (tmp_path / "one.safetensors").touch()
    options = load_options({}, config=path)
    assert options.models_dir == (Path("/a"), Path("/b"))
    assert options.lora == ("x.safetensors:0.5", "y.safetensors")
    assert options.transformer == (tmp_path / "one.safetensors", tmp_path / "two.safetensors")
    assert options.model == Path("fp8")  # the name of a preset, not of a file
