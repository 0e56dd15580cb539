"""The published files: repositories, names, sizes, checksums, licences. Data only, no torch.

None of this could be compared with the hub when it was written. ``sha256`` is given where several public projects
record the same size and checksum for a file; all other sizes are rounded or computed from the shapes, and marked by
``exact=False``. ``pull`` takes the true size and checksum from the hub and compares what came with both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a repository."""

    repo: str
    path: str
    part: str
    """What it is: a word of ``weights.checkpoint.Part``, or ``tokenizer`` or ``config``."""
    size: int
    """Bytes; about that when not ``exact``."""
    sha256: str | None = None
    revision: str = "main"
    alternatives: tuple[str, ...] = ()
    """Other spellings of ``path`` that were seen; tried in turn when it is not there."""
    exact: bool = False

    @property
    def spellings(self) -> tuple[str, ...]:
        """All paths under which the file may be found, the likeliest first."""
        return (self.path, *self.alternatives)

    @property
    def key(self) -> str:
        """How a lock file calls it: ``owner/name/path``."""
        return f"{self.repo}/{self.path}"


_APACHE, _MIT = "Apache-2.0", "MIT"
LICENCES = {
    "Wan-AI/Wan2.1-I2V-14B-480P": _APACHE,
    "Wan-AI/Wan2.1-I2V-14B-720P": _APACHE,
    "MeiGen-AI/InfiniteTalk": _APACHE,
    "MeiGen-AI/MeiGen-MultiTalk": _APACHE,
    "TencentGameMate/chinese-wav2vec2-base": _MIT,
    "Comfy-Org/Wan_2.1_ComfyUI_repackaged": _APACHE,
    "Kijai/WanVideo_comfy": _APACHE,
    "Kijai/WanVideo_comfy_fp8_scaled": _APACHE,
    "Kijai/WanVideo_comfy_GGUF": _APACHE,
    "Kijai/wav2vec2_safetensors": _MIT,
    "city96/Wan2.1-I2V-14B-480P-gguf": _APACHE,
    "lightx2v/Wan2.1-Distill-Models": _APACHE,
    "lightx2v/Wan2.1-Distill-Loras": _APACHE,
    "lightx2v/Autoencoders": _APACHE,
}
"""Of the original works; conversions carry them on. A repository may add conditions: its page is what counts."""

GB = 10**9
WAN, WAN_720 = "Wan-AI/Wan2.1-I2V-14B-480P", "Wan-AI/Wan2.1-I2V-14B-720P"
_TALK, _MULTITALK = "MeiGen-AI/InfiniteTalk", "MeiGen-AI/MeiGen-MultiTalk"
_COMFY = "Comfy-Org/Wan_2.1_ComfyUI_repackaged"
_KIJAI, _KIJAI_FP8 = "Kijai/WanVideo_comfy", "Kijai/WanVideo_comfy_fp8_scaled"
_KIJAI_GGUF = "Kijai/WanVideo_comfy_GGUF"
_CITY = "city96/Wan2.1-I2V-14B-480P-gguf"
_DISTILL, _DISTILL_LORAS = "lightx2v/Wan2.1-Distill-Models", "lightx2v/Wan2.1-Distill-Loras"
_TENCENT = "TencentGameMate/chinese-wav2vec2-base"


def _known(repo: str, path: str, part: str, size: int, sha256: str | None = None) -> RemoteFile:
    """A file whose size was recorded by others byte for byte."""
    return RemoteFile(repo, path, part, size, sha256, exact=True)


def _listed(repo: str, path: str, part: str, size: float, *alternatives: str) -> RemoteFile:
    """A file whose name is used by others, or listed; its size in GB is about right."""
    return RemoteFile(repo, path, part, round(size * GB), alternatives=alternatives)


def official_shards(repo: str) -> tuple[RemoteFile, ...]:
    """The official transformer: 16.39e9 weights in float32, in seven files."""
    names = [f"diffusion_pytorch_model-{i:05}-of-00007.safetensors" for i in range(1, 8)]
    index = _listed(repo, "diffusion_pytorch_model.safetensors.index.json", "config", 0.0001)
    config = _listed(repo, "config.json", "config", 0.0000003)
    return (config, index, *(_listed(repo, name, "transformer", 65.58 / 7) for name in names))


# Encoders and codecs, shared by the presets.
TOKENIZER = (
    _listed(WAN, "google/umt5-xxl/special_tokens_map.json", "tokenizer", 0.0000066),
    _known(WAN, "google/umt5-xxl/spiece.model", "tokenizer", 4_548_313),
    _known(WAN, "google/umt5-xxl/tokenizer.json", "tokenizer", 16_837_417),
    _listed(WAN, "google/umt5-xxl/tokenizer_config.json", "tokenizer", 0.0000617),
)
_T5_SHA256 = "7cace0da2b446bbbbc57d031ab6cf163a3d59b366da94e5afe36745b746fd81d"
_CLIP_SHA256 = "628c9998b613391f193eb67ff68da9667d75f492911e4eb3decf23460a158c38"
_VAE_SHA256 = "38071ab59bd94681c686fa51d75a1968f64e470262043be31f7a094e442fd981"
TEXT_OFFICIAL = _known(WAN, "models_t5_umt5-xxl-enc-bf16.pth", "text", 11_361_920_418, _T5_SHA256)
VISION_OFFICIAL = _known(
    WAN, "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth", "vision", 4_772_359_047, _CLIP_SHA256
)
VAE_OFFICIAL = _known(WAN, "Wan2.1_VAE.pth", "vae", 507_609_880, _VAE_SHA256)
# The main branch has a pickle only; the safetensors file is in a pull request that was never merged.
SPEECH_OFFICIAL = tuple(
    replace(file, revision="refs/pr/1")
    for file in (
        _listed(_TENCENT, "config.json", "config", 0.000002),
        _listed(_TENCENT, "preprocessor_config.json", "config", 0.0000002),
        _listed(_TENCENT, "model.safetensors", "speech", 0.38),
    )
)
TEXT_BF16 = _listed(_KIJAI, "umt5-xxl-enc-bf16.safetensors", "text", 11.36)
TEXT_FP8 = _known(
    _COMFY,
    "split_files/text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors",
    "text",
    6_735_906_897,
    "c3355d30191f1f066b26d93fba017ae9809dce6c627dda5f6a66eaa651204f68",
)
VISION = _known(
    _COMFY,
    "split_files/clip_vision/clip_vision_h.safetensors",
    "vision",
    1_264_219_396,
    "64a7ef761bfccbadbaa3da77366aac4185a6c58fa5de5f589b42a65bcc21f161",
)
VAE_COMFY = _known(
    _COMFY,
    "split_files/vae/wan_2.1_vae.safetensors",
    "vae",
    253_815_318,
    "2fc39d31359a4b0a64f55876d8ff7fa8d780956ae2cb13463b0223e15148976b",
)
VAE_KIJAI = _known(_KIJAI, "Wan2_1_VAE_bf16.safetensors", "vae", 253_806_278)
SPEECH_FP16 = _known(
    "Kijai/wav2vec2_safetensors",
    "wav2vec2-chinese-base_fp16.safetensors",
    "speech",
    190_115_368,
    "000813e441020f18cff844c969d2d5d4adc2a5ce46b2db1f23950b05d88805b4",
)
TINY_VAE = _listed("lightx2v/Autoencoders", "lighttaew2_1.safetensors", "tiny_vae", 0.023)
OFFICIAL_PARTS = (TEXT_OFFICIAL, *TOKENIZER, VISION_OFFICIAL, VAE_OFFICIAL, *SPEECH_OFFICIAL)
KIJAI_PARTS = (TEXT_BF16, *TOKENIZER, VISION, VAE_KIJAI, SPEECH_FP16)
COMFY_PARTS = (TEXT_FP8, *TOKENIZER, VISION, VAE_COMFY, SPEECH_FP16)
SMALL_PARTS = (TEXT_FP8, *TOKENIZER, VISION, VAE_KIJAI, SPEECH_FP16)

# Speech branches.
ADAPTER_SINGLE = _listed(_TALK, "single/infinitetalk.safetensors", "adapter", 9.95)
ADAPTER_MULTI = _listed(_TALK, "multi/infinitetalk.safetensors", "adapter", 9.95)
ADAPTER_MULTITALK = _listed(_MULTITALK, "multitalk.safetensors", "adapter", 9.95)
# "InfiniTetalk" is how the file is called; a correction upstream would be the second spelling.
ADAPTER_SINGLE_FP16 = _listed(
    _KIJAI,
    "InfiniteTalk/Wan2_1-InfiniTetalk-Single_fp16.safetensors",
    "adapter",
    5.125,
    "InfiniteTalk/Wan2_1-InfiniteTalk-Single_fp16.safetensors",
)
ADAPTER_SINGLE_FP8 = _known(
    _KIJAI_FP8,
    "InfiniteTalk/Wan2_1-InfiniteTalk-Single_fp8_e4m3fn_scaled_KJ.safetensors",
    "adapter",
    2_713_548_210,
)
ADAPTER_MULTI_FP8 = _listed(
    _KIJAI_FP8,
    "InfiniteTalk/Wan2_1-InfiniteTalk-Multi_fp8_e4m3fn_scaled_KJ.safetensors",
    "adapter",
    2.71,
)
ADAPTER_SINGLE_COMFY = _known(
    _COMFY,
    "split_files/model_patches/wan2.1_infiniteTalk_single_fp16.safetensors",
    "adapter",
    5_125_258_232,
)
ADAPTER_MULTI_COMFY = _known(
    _COMFY,
    "split_files/model_patches/wan2.1_infiniteTalk_multi_fp16.safetensors",
    "adapter",
    5_124_439_112,
    "4c2486cdfb6ff9a9f27408e98e11e20619136933b20411e0c365b1e84075d195",
)


def gguf_adapter(people: str, quant: str, size: float) -> RemoteFile:
    return _listed(_KIJAI_GGUF, f"InfiniteTalk/Wan2_1-InfiniteTalk_{people}_{quant}.gguf", "adapter", size)


# Transformers without a speech branch.
BASE_BF16 = _listed(
    _COMFY, "split_files/diffusion_models/wan2.1_i2v_480p_14B_bf16.safetensors", "transformer", 32.79
)
BASE_FP16 = _listed(
    _COMFY, "split_files/diffusion_models/wan2.1_i2v_480p_14B_fp16.safetensors", "transformer", 32.79
)
BASE_FP8_COMFY = _known(
    _COMFY,
    "split_files/diffusion_models/wan2.1_i2v_480p_14B_fp8_scaled.safetensors",
    "transformer",
    16_401_356_938,
    "b2de21b99b2e72cb0ff15253b07e926f26e7cf1b7e229efc32f94ad1f1ed9395",
)
# Revisions of the repository differ in the case of 480p and 720p.
BASE_FP8_KIJAI = RemoteFile(
    _KIJAI_FP8,
    "I2V/Wan2_1-I2V-14B-480p_fp8_e4m3fn_scaled_KJ.safetensors",
    "transformer",
    16_643_349_018,
    alternatives=("I2V/Wan2_1-I2V-14B-480P_fp8_e4m3fn_scaled_KJ.safetensors",),
    exact=True,
)
BASE_FP8_KIJAI_720 = _listed(
    _KIJAI_FP8,
    "I2V/Wan2_1-I2V-14B-720p_fp8_e4m3fn_scaled_KJ.safetensors",
    "transformer",
    16.64,
    "I2V/Wan2_1-I2V-14B-720P_fp8_e4m3fn_scaled_KJ.safetensors",
)
BASE_DISTILLED = _listed(
    _DISTILL, "wan2.1_i2v_480p_scaled_fp8_e4m3_lightx2v_4step.safetensors", "transformer", 16.4
)
LORA_KIJAI = _known(
    _KIJAI,
    "Lightx2v/lightx2v_I2V_14B_480p_cfg_step_distill_rank64_bf16.safetensors",
    "lora",
    738_005_744,
    "85c4a61c30e0497aa44b91d93a893b624708461a56fe5485183b28fa07e2dfb3",
)
LORA_LIGHTX2V = _known(
    _DISTILL_LORAS,
    "wan2.1_i2v_lora_rank64_lightx2v_4step.safetensors",
    "lora",
    739_472_104,
    "8833bd4fd7c8eabebf0bc8ee5cfaf47f4f310ce116928a02c1adf8941dd4b0f1",
)


def gguf_base(quant: str, size: float) -> RemoteFile:
    return _listed(_CITY, f"wan2.1-i2v-14b-480p-{quant}.gguf", "transformer", size)


def quanto(people: str, kind: str) -> tuple[RemoteFile, ...]:
    """A whole transformer with its speech branch, and the map beside it. No ``single_fp8_lora`` exists."""
    path = f"quant_models/infinitetalk_{people}_{kind}"
    return (
        _listed(_TALK, f"{path}.safetensors", "transformer", 19.5),
        _listed(_TALK, f"{path}.json", "config", 0.0001),
    )


_QUANTO_TEXT = (
    _listed(_TALK, "quant_models/t5_fp8.safetensors", "text", 6.73),
    _listed(_TALK, "quant_models/t5_map_fp8.json", "config", 0.00001),
)
QUANTO_PARTS = (*_QUANTO_TEXT, *TOKENIZER, VISION_OFFICIAL, VAE_OFFICIAL, *SPEECH_OFFICIAL)
