"""Every flag of every command, as one table; the commands in ``app.py`` pick their rows."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from infinite_talk import Attention, AudioLayout, Compat, Device, Distilled, Gemm, Precision, Quantization

from .config import StepCacheName

WHAT = "Picture, sound and words"
PEOPLE = "Several people"
LOOK = "Look of the picture"
SAMPLING = "Sampling"
LENGTH = "Length and windows"
MODELS = "Model files"
MACHINE = "Machine"
MEASURE = "Measurement"
SERVICE = "Service"
OUTPUT = "Output and control"
PANELS = (WHAT, PEOPLE, LOOK, SAMPLING, LENGTH, MEASURE, MODELS, MACHINE, SERVICE, OUTPUT)
"""Headings of the help, in its order."""


@dataclass(frozen=True, slots=True)
class Flag:
    """One option. A ``list`` may be repeated; a ``bool`` is a switch."""

    name: str  # of the parameter
    kind: Any
    panel: str
    help: str
    spellings: str = ""  # beyond --name, separated by spaces; a spelling with / gives both forms of a switch
    metavar: str | None = None
    default: Any = None
    count: bool = False

    @property
    def parameter(self) -> inspect.Parameter:
        """As a keyword of the command's function, in the form that typer reads."""
        first, *more = self.spellings.split()
        option = typer.Option(
            first,
            *more,
            help=self.help,
            rich_help_panel=self.panel,
            show_default=False,
            metavar=self.metavar,
            count=self.count,
        )
        kind = self.kind if self.default is not None else self.kind | None
        annotation = Annotated[kind, option]  # type: ignore[valid-type]
        return inspect.Parameter(
            self.name, inspect.Parameter.KEYWORD_ONLY, default=self.default, annotation=annotation
        )


FILES = (
    Flag("image", Path, WHAT, "Portrait: PNG, JPEG, WebP or BMP.", "--image -i", "FILE"),
    Flag("video", Path, WHAT, "Video to dub, instead of a portrait.", "--video", "FILE"),
    Flag(
        "audio",
        list[str],
        WHAT,
        "Recording of a speaker, any audio or video file; once for each speaker. none is a silent person.",
        "--audio -a",
        "FILE",
    ),
    Flag("output", Path, WHAT, "Video to write; default PICTURE-talking.mp4 here.", "--output -o", "FILE"),
    Flag("job", Path, WHAT, "Job file (JSON) of the official program; flags win over it.", "--job", "FILE"),
    Flag("again", Path, WHAT, "Repeat the recipe stored in an earlier video; flags win.", "--from", "MP4"),
)
REQUEST = (
    Flag("prompt", str, WHAT, "What is seen; a | b | c for successive windows.", "--prompt -p"),
    Flag("negative_prompt", str, WHAT, "What is not wanted.", "--negative-prompt --negative"),
    Flag(
        "box",
        list[str],
        PEOPLE,
        "Where a speaker is, in pixels of the picture; in the order of --audio.",
        "--box",
        "L,T,R,B",
    ),
    Flag(
        "mask",
        list[str],
        PEOPLE,
        "Picture whose bright pixels are a speaker; in the order of --audio.",
        "--mask",
        "FILE",
    ),
    Flag("layout", AudioLayout, PEOPLE, "Do all recordings start together, or in turn?", "--layout"),
    Flag(
        "size",
        str,
        LOOK,
        "480 or 720 (official sizes), WxH (that area, in the picture's shape), WxH! (exactly).",
        "--size -s",
    ),
    Flag(
        "colour_strength",
        float,
        LOOK,
        "0 to 1: how much the colours are held to the first frame's. Default 1.",
        "--colour-strength --color-strength",
    ),
    Flag("compat", Compat, LOOK, "official repeats the known faults of the original program.", "--compat"),
    Flag("seed", int, SAMPLING, "Same seed, same video. Default 42.", "--seed"),
    Flag("steps", int, SAMPLING, "Denoising steps.", "--steps -n"),
    Flag("shift", float, SAMPLING, "Larger spends more steps on the coarse picture.", "--shift"),
    Flag(
        "scheduler",
        str,
        SAMPLING,
        "Schedule and solver by the names of node packs, such as unipc or dpm++_sde; docs/schedulers.md has all.",
        "--scheduler",
        "NAME",
    ),
    Flag(
        "text_guidance",
        float,
        SAMPLING,
        "How strongly the prompt is followed; 1 is fastest.",
        "--text-guidance",
    ),
    Flag("audio_guidance", float, SAMPLING, "How strongly the speech moves the mouth.", "--audio-guidance"),
    Flag("apg", bool, SAMPLING, "Adaptive projected guidance.", "--apg/--no-apg"),
    Flag("apg_momentum", float, SAMPLING, "Its momentum, -1 to 1.", "--apg-momentum"),
    Flag("apg_norm", float, SAMPLING, "Its limit for the norm of a difference.", "--apg-norm"),
    Flag(
        "step_cache",
        StepCacheName,
        SAMPLING,
        "Leave out steps that would change little: faster, and not the same picture.",
        "--step-cache",
    ),
    Flag(
        "cache_threshold",
        float,
        SAMPLING,
        "How much may change meanwhile; 0 leaves out nothing. Default 0.2, 0.12 or 0.05, as listed above.",
        "--cache-threshold",
    ),
    Flag(
        "cache_longest",
        int,
        SAMPLING,
        "magcache: most steps left out in a row; default 2.",
        "--cache-longest",
    ),
    Flag(
        "cache_retention",
        float,
        SAMPLING,
        "magcache, easycache: share of the steps, from the first on, that are always made; default 0.2.",
        "--cache-retention",
    ),
    Flag(
        "teacache",
        float,
        SAMPLING,
        "The same as --step-cache teacache with this threshold; 0 is off.",
        "--teacache",
    ),
    Flag(
        "distilled",
        Distilled,
        SAMPLING,
        "Steps, shift and guidance of a LoRA for few steps, which is looked for in the models folders.",
        "--distilled",
    ),
    Flag("audio_start", float, LENGTH, "Seconds to leave out at the start.", "--audio-start", "SECONDS"),
    Flag("audio_end", float, LENGTH, "Second at which the sound is cut.", "--audio-end", "SECONDS"),
    Flag("max_frames", int, LENGTH, "Longest video, in frames.", "--max-frames"),
    Flag("fps", int, LENGTH, "Frames per second; the models make 25.", "--fps"),
    Flag("window_frames", int, LENGTH, "Frames made at a time, 4n+1.", "--window-frames"),
    Flag("motion_frames", int, LENGTH, "Frames carried into the next window, 4n+1.", "--motion-frames"),
    Flag(
        "scene_cuts",
        bool,
        LENGTH,
        "Start afresh where the --video has a cut.",
        "--scene-cuts/--no-scene-cuts",
    ),
)
MODEL = (
    Flag(
        "model",
        Path,
        MODELS,
        "Name of a preset, or folder of a model; default is the embedded one.",
        "--model -m",
        "NAME|FOLDER",
    ),
    Flag("models_dir", list[Path], MODELS, "Where models are looked for.", "--models-dir", "FOLDER"),
    Flag(
        "transformer",
        list[Path],
        MODELS,
        "The transformer: a file, each of its shards, or their folder.",
        "--transformer",
        "FILE",
    ),
    Flag("adapter", Path, MODELS, "Its speech branch (InfiniteTalk, MultiTalk).", "--adapter", "FILE"),
    Flag("vae", Path, MODELS, "The video codec.", "--vae", "FILE"),
    Flag("tiny_vae", Path, MODELS, "A tiny decoder (TAEHV) for quick drafts.", "--tiny-vae", "FILE"),
    Flag("text_encoder", Path, MODELS, "UMT5-XXL encoder.", "--text-encoder", "FILE"),
    Flag("tokenizer", Path, MODELS, "Folder of its tokenizer.", "--tokenizer", "FOLDER"),
    Flag("image_encoder", Path, MODELS, "CLIP ViT-H image tower.", "--image-encoder", "FILE"),
    Flag("speech_encoder", Path, MODELS, "wav2vec2.", "--speech-encoder", "FILE"),
    Flag(
        "lora",
        list[str],
        MODELS,
        "LoRA with its strength, or one for each step: a.safetensors:1,1,0.5. May be repeated.",
        "--lora",
        "FILE[:X]",
    ),
    Flag(
        "merge_loras",
        bool,
        MODELS,
        "Add LoRAs to the weights at load (default), or compute them beside.",
        "--merge-loras/--no-merge-loras",
    ),
)
PLACE = (
    Flag("precision", Precision, MACHINE, "auto is bf16 on a GPU, fp32 on the CPU.", "--precision"),
    Flag(
        "vae_precision",
        Precision,
        MACHINE,
        "Of the video codec; auto is what its files were made for.",
        "--vae-precision",
    ),
    Flag(
        "quantization",
        Quantization,
        MACHINE,
        "Large weights in fewer bits; disabled keeps what the file has.",
        "--quantization",
    ),
    Flag("attention", Attention, MACHINE, "Attention kernel; auto takes the best exact one.", "--attention"),
    Flag(
        "tf32",
        bool,
        MACHINE,
        "Multiply float32 with TF32's short mantissa (Ampere and newer).",
        "--tf32/--no-tf32",
    ),
    Flag(
        "gemm",
        Gemm,
        MACHINE,
        "Library of an NVIDIA GPU for matrix products; auto is torch's choice.",
        "--gemm",
    ),
    Flag(
        "fuse_qkv",
        bool,
        MACHINE,
        "One product for queries, keys and values; no gain was measured.",
        "--fuse-qkv/--no-fuse-qkv",
    ),
    Flag(
        "contiguous",
        bool,
        MACHINE,
        "Copy queries, keys and values into dense tensors before each attention.",
        "--contiguous/--no-contiguous",
    ),
    Flag(
        "compile",
        bool,
        MACHINE,
        "torch.compile for the transformer's blocks: minutes at the first pass, then faster. NVIDIA GPUs only.",
        "--compile/--no-compile",
    ),
    Flag(
        "strict", bool, MACHINE, "Refuse instead of falling back to something else.", "--strict/--no-strict"
    ),
    Flag("vram", float, MACHINE, "GPU memory to use at most; default what is free.", "--vram", "GIB"),
    Flag(
        "blocks_to_swap",
        int,
        MACHINE,
        "Transformer blocks kept in host memory; default as many as needed.",
        "--blocks-to-swap",
    ),
    Flag("prefetch_blocks", int, MACHINE, "Blocks copied ahead of use.", "--prefetch-blocks"),
    Flag(
        "vae_tiling",
        bool,
        MACHINE,
        "Work in tiles in the video codec: less memory, more work, the same numbers.",
        "--vae-tiling/--no-vae-tiling",
    ),
    Flag("crf", int, MACHINE, "H.264 quality: 0 is lossless, 18 (default) very good, 51 worst.", "--crf"),
    Flag("config", Path, MACHINE, "TOML file with options.", "--config", "FILE"),
    Flag(
        "assignments", list[str], MACHINE, "Any option of the file; may be repeated.", "--set", "NAME=VALUE"
    ),
)
DEVICE = (
    Flag("device", Device, MACHINE, "auto takes the first NVIDIA GPU, else the CPU.", "--device"),
    Flag("threads", int, MACHINE, "CPU threads; another number may change the last bit.", "--threads"),
)
CONTROL = (
    Flag(
        "resume",
        bool,
        OUTPUT,
        "Continue an interrupted run of the same command (default), or begin again.",
        "--resume/--no-resume",
        default=True,
    ),
    Flag("dry_run", bool, OUTPUT, "Say what would be made, and stop.", "--dry-run", default=False),
)
FORCE = Flag("force", bool, OUTPUT, "Replace the output file when it exists.", "--force -f", default=False)
DEMO_OUTPUT = Flag("output", Path, OUTPUT, "Video to write; default outputs/demo.mp4.", "--output -o", "FILE")
CHART = Flag(
    "chart", Path, OUTPUT, "Write a picture of loudness, mouth opening and window seams.", "--chart", "PNG"
)
JSON = Flag(
    "json", bool, OUTPUT, "Print one JSON object on stdout; the rest goes to stderr.", "--json", default=False
)
TO = Flag("to", Path, MODELS, "Folder to download to; default the hub's cache (HF_HOME).", "--to", "FOLDER")
FETCH = Flag("dry_run", bool, OUTPUT, "Say what would be fetched, and stop.", "--dry-run", default=False)
MODELS_DIR = next(flag for flag in MODEL if flag.name == "models_dir")
ALLOW_PICKLE = Flag(
    "allow_pickle",
    bool,
    MODELS,
    "Read .pth files with a torch older than 2.10, whose reader has known holes.",
    "--allow-pickle",
    default=False,
)
CONVERT = (
    Flag("adapter", Path, MODELS, "Speech branch to join with the transformer.", "--adapter", "FILE"),
    Flag(
        "quantization",
        Quantization,
        MODELS,
        "fp8 kinds or int8 for a transformer; default as the file has it.",
        "--quantization",
    ),
    Flag("precision", Precision, MODELS, "Of all that is not quantised; auto keeps it.", "--precision"),
)
BENCH = (
    Flag(
        "what",
        list[str],
        MEASURE,
        "dit (default), vae, window, attention, linear or load; may be repeated.",
        "--what",
        "dit|vae|window|attention|linear|load",
    ),
    Flag("cases", Path, MEASURE, "TOML file with many cases, like those of bench/cases.", "--cases", "FILE"),
    Flag(
        "model",
        Path,
        MODELS,
        "14b (default on a GPU): the published sizes with random weights; embedded; or a folder.",
        "--model -m",
        "14b|embedded|FOLDER",
    ),
    MODELS_DIR,
    Flag("size", str, MEASURE, "480p, 720p, 640 or WxH. Default 480p, or the model's own.", "--size -s"),
    Flag("frames", int, MEASURE, "Frames of a window, 4n+1.", "--frames"),
    Flag("windows", int, MEASURE, "Windows of --what window. Default 1.", "--windows"),
    Flag(
        "steps", int, MEASURE, "Denoising steps; with dit also measures the steps of the loop.", "--steps -n"
    ),
    Flag("branches", int, MEASURE, "Questions to the model in each step: 1 to 3. Default 1.", "--branches"),
    Flag("people", int, MEASURE, "Speakers: 1 or 2. Default 1.", "--people"),
    Flag(
        "layers",
        int,
        MEASURE,
        "Only so many layers of the transformer; the time of all is then an estimate, and called so.",
        "--layers",
    ),
    Flag("repeats", int, MEASURE, "Measured calls. Default 5.", "--repeats"),
    Flag(
        "seconds_warm_up",
        float,
        MEASURE,
        "Work before the first measured call. Default 2 on a GPU, 0 on a CPU.",
        "--seconds-warm-up",
    ),
    Flag(
        "seconds_ceiling",
        float,
        MEASURE,
        "Load for each ceiling. Default 2 on a GPU, 0.05 on a CPU.",
        "--seconds-ceiling",
    ),
    Flag(
        "profile",
        bool,
        MEASURE,
        "Kernels of a pass by kind, and how often the loop makes the host wait.",
        "--profile",
        default=False,
    ),
    Flag(
        "against",
        str,
        MEASURE,
        "diffusers: its transformer of the same size in the same process.",
        "--against",
        "diffusers",
    ),
    Flag("compile", bool, MEASURE, "The other program also compiled.", "--compile", default=False),
    *(flag for flag in PLACE if flag.name in ("precision", "quantization", "attention")),
    Flag("seed", int, MEASURE, "Of weights and inputs. Default 1.", "--seed"),
    Flag("output", Path, OUTPUT, "JSON to write, after each case anew.", "--output -o", "FILE"),
)
WORKFLOW = (
    Flag(
        "values",
        list[str],
        WHAT,
        "An input of a node by id, title or type: 128.steps=4. May be repeated.",
        "--set",
        "NODE.INPUT=VALUE",
    ),
    Flag("image", Path, WHAT, "Picture in place of the one that the workflow loads.", "--image -i", "FILE"),
    Flag("video", Path, WHAT, "Video in place of the one that the workflow loads.", "--video", "FILE"),
    Flag("audio", Path, WHAT, "Recording in place of the one that the workflow loads.", "--audio -a", "FILE"),
    Flag(
        "input_dir",
        list[Path],
        WHAT,
        "Folder in which the workflow's media are looked for, before its own folder and input/ beside it.",
        "--input-dir",
        "FOLDER",
    ),
    Flag(
        "models", str, MODELS, "embedded: the embedded model stands for every model.", "--models", "embedded"
    ),
    MODELS_DIR,
)
WORKFLOW_OUTPUT = Flag(
    "output", Path, OUTPUT, "Video to write; default WORKFLOW.mp4 here.", "--output -o", "FILE"
)
TALK = (
    JSON,
    Flag("quiet", bool, OUTPUT, "Warnings and errors only.", "--quiet -q", default=False),
    Flag("verbose", int, OUTPUT, "More detail; twice for all.", "--verbose -v", default=0, count=True),
    Flag("debug", bool, OUTPUT, "Show the traceback of an error.", "--debug", default=False),
)


def with_flags(*flags: Flag) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Give a command these flags; its function takes them as ``**flags``, after its own parameters."""

    def add(command: Callable[..., int]) -> Callable[..., int]:
        own = inspect.signature(command, eval_str=True)
        named = [p for p in own.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        parameters = [*named, *(flag.parameter for flag in flags)]
        command.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        command.flags = flags  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": int}
        return command

    return add


def flags_of(command: Callable[..., int]) -> tuple[Flag, ...]:
    """The flags that a command was given."""
    return getattr(command, "flags", ())
