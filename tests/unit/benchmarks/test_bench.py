"""The command from flags to JSON, with models of a few thousand parameters."""

from __future__ import annotations

import contextlib
import io
import json
import math
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from infinite_talk.benchmarks import first_step, stand
from infinite_talk.benchmarks.random_models import Sizes
from infinite_talk.frontends.cli.main import run
from infinite_talk.models.dit import DiTConfig
from infinite_talk.models.speech import SpeechConfig
from infinite_talk.models.text import TextConfig
from infinite_talk.models.vae import VAEConfig
from infinite_talk.models.vision import VisionConfig
from tests.bundles import CONFIGS

QUICK = ("bench", "--device", "cpu", "--size", "64x64", "--frames", "9", "--repeats", "2", "-q")
QUICK += ("--seconds-ceiling", "0.001")


def numbers(value, path=""):
    """Every number in a report, with where it is."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from numbers(one, f"{path}/{key}")
    elif isinstance(value, list):
        for one in value:
            yield from numbers(one, path)
    elif isinstance(value, (int, float)):
        yield path, value


def measured(capsys, *arguments) -> dict:
    """The JSON of a run that went well: all of its numbers finite, all of its times positive."""
    assert run([*QUICK, *map(str, arguments), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == "infinite-talk-bench/1" and report["ok"]
    assert {"date", "command", "machine", "versions", "cases"} <= set(report)
    for path, number in numbers(report):
        assert math.isfinite(number), path
        assert number > 0 or not path.endswith(("median", "min", "max", "_seconds")), path
    return report


@pytest.fixture
def tiny_14b(monkeypatch: pytest.MonkeyPatch) -> DiTConfig:
    """Tiny sizes in the place of the published ones, with words instead of bytes."""
    text = {**CONFIGS["text"], "vocab_size": 500}
    config = DiTConfig(**{**CONFIGS["transformer"], "num_layers": 4})
    sizes = Sizes(
        config,
        VAEConfig.from_json(CONFIGS["vae"]),
        TextConfig.from_json(text),
        VisionConfig.from_json(CONFIGS["vision"]),
        SpeechConfig.from_json(CONFIGS["speech"]),
    )
    monkeypatch.setattr(stand, "Sizes", lambda: sizes)
    return config


def test_a_transformer_is_measured_and_judged(tiny_bundle, capsys, tmp_path):
    output = tmp_path / "out.json"
    report = measured(capsys, "--model", tiny_bundle, "--branches", 3, "--profile", "-o", output)
    assert json.loads(output.read_text())["cases"] == report["cases"]
    (case,) = report["cases"]
    assert case["case"]["branches"] == 3 and case["ran"]["attention"] == "sdpa"
    result = case["result"]
    assert result["tokens"] == 3 * 4 * 4 and "estimate" not in result
    assert len(result["seconds"]["all"]) == 2 and result["output_std"] > 0
    assert result["flops"]["ours"] < result["flops"]["official"]
    assert sum(result["flops"]["parts"].values()) == pytest.approx(result["flops"]["ours"])
    seconds, limit = result["seconds"]["median"], result["limit"]
    assert limit["fraction"] == pytest.approx(limit["seconds"] / seconds)
    assert limit["gemm_seconds"] + limit["attention_seconds"] == pytest.approx(limit["seconds"])
    assert result["tflops"]["official"] * 1e12 == pytest.approx(result["flops"]["official"] / seconds)
    assert result["step"]["branches"] == 3 and result["profile"]["groups"]["gemm"]["calls"] > 0
    assert result["profile"]["host_syncs_in_loop"]["steps"] == 2


def test_fewer_layers_are_called_an_estimate(tiny_14b, capsys):
    report = measured(capsys, "--model", "14b", "--layers", 1, "--people", 2, "--quantization", "int8")
    result = report["cases"][0]["result"]
    assert (result["layers"], result["estimate"]["layers"]) == (1, 4)
    assert result["estimate"]["seconds"] == pytest.approx(4 * result["seconds"]["median"])
    assert "class maps" in result["flops"]["parts"]
    assert run([*QUICK, "--model", "14b", "--layers", "1"]) == 0
    assert "ESTIMATE" in capsys.readouterr().out


def test_a_whole_window_of_random_weights_reaches_the_disk(tiny_14b, capsys):
    """Five random models, a tokenizer of made-up words, the real engine, an mp4."""
    report = measured(
        capsys, "--model", "14b", "--what", "window", "--windows", 3, "--steps", 1, "--repeats", 1
    )
    result = report["cases"][0]["result"]
    assert (result["windows"], result["frames"]) == (3, 9 + 2 * (9 - 5)) and result["bytes"] > 1000
    assert [len(one) for one in result["seconds_per_window"]] == [3]
    assert {"encoding", "sampling", "decoding", "writing"} <= set(result["phases"]["seconds"])
    assert result["phases"]["windows"] == 2 and not result["notes"]


def test_kernels_codec_and_several_at_once(tiny_bundle, capsys):
    what = [word for name in ("vae", "attention", "linear") for word in ("--what", name)]
    report = measured(capsys, "--model", tiny_bundle, *what)
    codec, attention, linear = (case["result"]["jobs"] for case in report["cases"])
    assert set(codec) == {"decode", "encode_motion", "encode_reference"}
    assert set(attention) == {"self", "cross", "speech"} and set(linear) == {
        "24x24",
        "24x72",
        "24x32",
        "32x24",
    }
    for job in (*codec.values(), *attention.values(), *linear.values()):
        assert job["tflops"] * 1e12 == pytest.approx(job["flops"] / job["seconds"]["median"])


def test_one_case_that_cannot_run_leaves_the_others(tiny_bundle, capsys, tmp_path):
    cases = tmp_path / "cases.toml"
    cases.write_text(
        '[[case]]\nwhat = "linear"\n[[case]]\nattention = "flash_attn_3"\n[[case]]\nlayers = 9\n'
    )
    assert run([*QUICK, "--model", str(tiny_bundle), "--cases", str(cases), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    good, kernel, layers = report["cases"]
    assert not report["ok"] and "result" in good
    assert "flash_attn_3 needs" in kernel["problem"] and "9 layers were asked for" in layers["problem"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--device", "cuda"), 2, "torch finds no NVIDIA GPU"),
        (("--attention", "flash_attn_3"), 2, "Choose attention sdpa"),
        (("--attention", "magic"), 2, "magic"),
        (("--quantization", "fp8_e4m3fn_scaled_fast"), 2, "needs a GPU that multiplies float8"),
        (("--what", "all"), 2, "There is no what 'all'"),
        (("--what", "load", "--model", "14b"), 2, "--model 14b has none"),
        (("--what", "window", "--layers", "1"), 2, "needs --model 14b"),
        (("--against", "diffusers"), 2, "pip install 'infinite-talk[bench]'"),
        (("--cases", "no.toml"), 2, "cannot be read"),
        (("--model", "nowhere"), 4, "nowhere"),
        (("-o", "no/where.json"), 6, "is not there"),
    ],
)
def test_what_is_refused(arguments, code, says, capsys, monkeypatch):
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("this machine has what is missed")
    monkeypatch.setitem(sys.modules, "diffusers", None)
    assert run([*QUICK, *arguments]) == code
    said = capsys.readouterr().err
    assert says in said and "Traceback" not in said


def test_a_start_is_timed_from_the_process_to_the_first_step(tiny_bundle, capsys, monkeypatch):
    """With the child's work done here: a process of its own takes seconds to import torch."""

    def child(command, **_):
        assert command[1:3] == ["-m", "infinite_talk.benchmarks.first_step"]
        with contextlib.redirect_stdout(io.StringIO()) as said:
            first_step.main(command[3], float(command[4]))
        return SimpleNamespace(stdout="a note\n" + said.getvalue(), stderr="", returncode=0)

    monkeypatch.setattr("infinite_talk.benchmarks.load.subprocess.run", child)
    (case,) = measured(capsys, "--model", tiny_bundle, "--what", "load", "--branches", 2)["cases"]
    points = case["result"]["points"]
    order = ["python", "imports", "loading", "sampling", "first step"]
    assert sorted(points, key=points.__getitem__) == order
    assert case["result"]["seconds"]["median"] == points["first step"]
    monkeypatch.setattr(
        "infinite_talk.benchmarks.load.subprocess.run",
        lambda *_, **__: SimpleNamespace(stdout="", stderr="it broke\n", returncode=3),
    )
    assert run([*QUICK, "--model", str(tiny_bundle), "--what", "load"]) == 2
    assert "ended with 3: it broke" in capsys.readouterr().err


class Other(nn.Module):
    """Takes diffusers' place: the same sizes are asked for, and two of its parts stay wide."""

    def __init__(self, **sizes):
        super().__init__()
        self.sizes, self.compiled = sizes, 0
        self.norm1, self.proj_out = nn.LayerNorm(8), nn.Linear(8, 8)

    def set_attention_backend(self, name):
        assert name == "native"

    def compile_repeated_blocks(self):
        self.compiled += 1

    def forward(
        self, hidden_states, timestep, encoder_hidden_states, encoder_hidden_states_image, return_dict
    ):
        assert self.norm1.weight.dtype == torch.float32 and self.proj_out.weight.dtype == hidden_states.dtype
        assert hidden_states.shape[1] == self.sizes["in_channels"] == 36 and not return_dict
        assert encoder_hidden_states.shape[2] == self.sizes["text_dim"]
        assert encoder_hidden_states_image.shape[2] == self.sizes["image_dim"]
        return (hidden_states[:, : self.sizes["out_channels"]],)


def test_a_rival_runs_in_the_same_process(tiny_bundle, capsys, monkeypatch):
    package = ModuleType("diffusers")
    package.__dict__.update(SimpleNamespace(WanTransformer3DModel=Other, __version__="0.0").__dict__)
    monkeypatch.setitem(sys.modules, "diffusers", package)
    asked = ("--model", tiny_bundle, "--against", "diffusers", "--compile", "--precision", "bf16")
    (case,) = measured(capsys, *asked)["cases"]
    rival, ours = case["result"]["against"], case["result"]
    assert set(rival["ways"]) == {"eager", "compiled"} and rival["attention"] == "native"
    assert rival["flops"] < ours["flops"]["official"]  # it has no speech branch, and says so
    way = rival["ways"]["eager"]
    assert way["ratio"] == pytest.approx(way["seconds"]["median"] / ours["seconds"]["median"])


def test_diffusers_own_model_takes_what_it_is_given(tiny_bundle, capsys):
    pytest.importorskip("diffusers")
    (case,) = measured(capsys, "--model", tiny_bundle, "--against", "diffusers")["cases"]
    assert case["result"]["against"]["ways"]["eager"]["seconds"]["median"] > 0
