"""Which module a node lives in, and its name for people. Modules are imported when a node is first asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from infinite_talk.errors import UsageError


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a node is, and how a graph shows it."""

    module: str
    title: str
    class_name: str = ""
    """Where the node's name is none that Python could give a class."""


NODES: Mapping[str, Entry] = {
    "WanVideoModelLoader": Entry("loaders", "WanVideo Model Loader"),
    "MultiTalkModelLoader": Entry("loaders", "Multi/InfiniteTalk Model Loader"),
    "WanVideoVAELoader": Entry("loaders", "WanVideo VAE Loader"),
    "WanVideoTinyVAELoader": Entry("loaders", "WanVideo Tiny VAE Loader"),
    "LoadWanVideoT5TextEncoder": Entry("encoders", "WanVideo T5 Text Encoder Loader"),
    "LoadWanVideoClipTextEncoder": Entry("encoders", "WanVideo CLIP Text Encoder Loader"),
    "Wav2VecModelLoader": Entry("encoders", "Wav2vec2 Model Loader"),
    "DownloadAndLoadWav2VecModel": Entry("encoders", "(Down)load Wav2Vec Model"),
    "WanVideoBlockSwap": Entry("machine", "WanVideo Block Swap"),
    "WanVideoSetBlockSwap": Entry("machine", "WanVideo Set BlockSwap"),
    "WanVideoVRAMManagement": Entry("machine", "WanVideo VRAM Management"),
    "WanVideoTorchCompileSettings": Entry("machine", "WanVideo Torch Compile Settings"),
    "WanVideoExtraModelSelect": Entry("machine", "WanVideo Extra Model Select"),
    "WanVideoVACEModelSelect": Entry("machine", "WanVideo VACE Module Select"),
    "QwenLoader": Entry("encoders", "Qwen Loader"),
    "WanVideoLoraSelect": Entry("loras", "WanVideo Lora Select"),
    "WanVideoLoraSelectMulti": Entry("loras", "WanVideo Lora Select Multi"),
    "WanVideoLoraSelectByName": Entry("loras", "WanVideo Lora Select By Name"),
    "WanVideoLoraBlockEdit": Entry("loras", "WanVideo Lora Block Edit"),
    "WanVideoSetLoRAs": Entry("loras", "WanVideo Set LoRAs"),
    "WanVideoTextEncode": Entry("text", "WanVideo TextEncode"),
    "WanVideoTextEncodeCached": Entry("text", "WanVideo TextEncode Cached"),
    "WanVideoTextEncodeSingle": Entry("text", "WanVideo TextEncodeSingle"),
    "WanVideoTextEmbedBridge": Entry("text", "WanVideo TextEmbed Bridge"),
    "WanVideoClipVisionEncode": Entry("vision", "WanVideo ClipVision Encode"),
    "WanVideoImageToVideoEncode": Entry("image", "WanVideo ImageToVideo Encode"),
    "WanVideoImageToVideoMultiTalk": Entry("talking", "WanVideo Long I2V Multi/InfiniteTalk"),
    "WanVideoImageToVideoSkyreelsv3_audio": Entry("talking", "WanVideo Long SkyReelsV3 A2V"),
    "WanVideoEmptyEmbeds": Entry("image", "WanVideo Empty Embeds"),
    "MultiTalkWav2VecEmbeds": Entry("speech", "Multi/InfiniteTalk Wav2vec2 Embeds"),
    "MultiTalkSilentEmbeds": Entry("speech", "MultiTalk Silent Embeds"),
    "WanVideoEncode": Entry("codec", "WanVideo Encode"),
    "WanVideoEncodeLatentBatch": Entry("codec", "WanVideo Encode Latent Batch"),
    "WanVideoDecode": Entry("codec", "WanVideo Decode"),
    "WanVideoPassImagesFromSamples": Entry("codec", "WanVideo Pass Images From Samples"),
    "WanVideoSampler": Entry("sampler", "WanVideo Sampler"),
    "WanVideoSamplerv2": Entry("sampler", "WanVideo Sampler v2"),
    "WanVideoSamplerSettings": Entry("sampler", "WanVideo Sampler Settings"),
    "WanVideoSamplerFromSettings": Entry("sampler", "WanVideo Sampler From Settings"),
    "WanVideoSamplerExtraArgs": Entry("sampler", "WanVideoSampler v2 Extra Args"),
    "WanVideoScheduler": Entry("schedules", "WanVideo Scheduler"),
    "WanVideoSchedulerv2": Entry("schedules", "WanVideo Scheduler v2"),
    "WanVideoSigmaToStep": Entry("schedules", "WanVideo Sigma To Step"),
    "WanVideoEnhanceAVideo": Entry("techniques", "WanVideo Enhance-A-Video"),
    "WanVideoSLG": Entry("techniques", "WanVideo SLG"),
    "WanVideoApplyNAG": Entry("techniques", "WanVideo Apply NAG"),
    "WanVideoRoPEFunction": Entry("techniques", "WanVideo RoPE Function"),
    "WanVideoSetAttentionModeOverride": Entry("techniques", "WanVideo Set Attention Mode Override"),
    "WanVideoSetRadialAttention": Entry("techniques", "WanVideo Set Radial Attention"),
    "WanVideoUltraVicoSettings": Entry("techniques", "WanVideo UltraVico Settings"),
    "WanVideoBlockList": Entry("techniques", "WanVideo Block List"),
    "WanVideoTeaCache": Entry("caches", "WanVideo TeaCache"),
    "WanVideoMagCache": Entry("caches", "WanVideo MagCache"),
    "WanVideoEasyCache": Entry("caches", "WanVideo EasyCache"),
    "WanVideoContextOptions": Entry("guidance", "WanVideo Context Options"),
    "WanVideoLoopArgs": Entry("guidance", "WanVideo Loop Args"),
    "WanVideoFreeInitArgs": Entry("guidance", "WanVideo Free Init Args"),
    "WanVideoExperimentalArgs": Entry("guidance", "WanVideo Experimental Args"),
    "WanVideoFlowEdit": Entry("guidance", "WanVideo FlowEdit"),
    "CreateCFGScheduleFloatList": Entry("guidance", "Create CFG Schedule Float List"),
    "CreateScheduleFloatList": Entry("guidance", "Create Schedule Float List"),
    "WanVideoUni3C_ControlnetLoader": Entry("adapters", "WanVideo Uni3C Controlnet Loader"),
    "WanVideoUni3C_embeds": Entry("adapters", "WanVideo Uni3C Embeds"),
    "WanVideoUniAnimatePoseInput": Entry("adapters", "WanVideo UniAnimate Pose Input"),
    "WanVideoUniAnimateDWPoseDetector": Entry("adapters", "WanVideo UniAnimate DWPose Detector"),
    "FantasyTalkingModelLoader": Entry("fantasy", "FantasyTalking Model Loader"),
    "FantasyTalkingWav2VecEmbeds": Entry("fantasy", "FantasyTalking Wav2Vec Embeds"),
    "FantasyPortraitModelLoader": Entry("fantasy", "FantasyPortrait Model Loader"),
    "FantasyPortraitFaceDetector": Entry("fantasy", "FantasyPortrait Face Detector"),
    "WanVideoAddFantasyPortrait": Entry("fantasy", "WanVideo Add Fantasy Portrait"),
    "FaceMaskFromPoseKeypoints": Entry("utilities", "Face Mask From Pose Keypoints"),
    "WanVideoImageResizeToClosest": Entry("utilities", "WanVideo Image Resize To Closest"),
    "NormalizeAudioLoudness": Entry("utilities", "Normalize Audio Loudness"),
    "WanVideoLatentReScale": Entry("utilities", "WanVideo Latent ReScale"),
    "WanVideoAddExtraLatent": Entry("utilities", "WanVideo Add Extra Latent"),
    "DummyComfyWanModelObject": Entry("utilities", "Dummy Comfy Wan Model Object"),
    "WanVideoAddPusaNoise": Entry("utilities", "WanVideo Add Pusa Noise"),
}
"""The nodes by their class names, which workflows hold."""
BESIDE: Mapping[str, Entry] = {
    "CLIPVisionLoader": Entry("encoders", "Load CLIP Vision"),
    "LoadImage": Entry("helpers.loading", "Load Image"),
    "LoadAudio": Entry("helpers.loading", "Load Audio"),
    "VHS_LoadAudio": Entry("helpers.loading", "Load Audio (Path)"),
    "VHS_LoadAudioUpload": Entry("helpers.loading", "Load Audio (Upload)"),
    "VHS_LoadVideo": Entry("helpers.loading", "Load Video (Upload)"),
    "VHS_LoadVideoPath": Entry("helpers.loading", "Load Video (Path)"),
    "LoadVideo": Entry("helpers.video", "Load Video"),
    "GetVideoComponents": Entry("helpers.video", "Get Video Components"),
    "ImageResizeKJv2": Entry("helpers.pictures", "Resize Image v2"),
    "ImageResizeKJ": Entry("helpers.pictures", "Resize Image"),
    "ImageScale": Entry("helpers.pictures", "Upscale Image"),
    "GetImageRangeFromBatch": Entry("helpers.pictures", "Get Image or Mask Range From Batch"),
    "GetImageSizeAndCount": Entry("helpers.pictures", "Get Image Size & Count"),
    "GetImageSize": Entry("helpers.pictures", "Get Image Size"),
    "ImageConcatMulti": Entry("helpers.pictures", "Image Concatenate Multi"),
    "TrimAudioDuration": Entry("helpers.sound", "Trim Audio Duration"),
    "AudioCrop": Entry("helpers.sound", "AudioCrop"),
    "AudioConcat": Entry("helpers.sound", "Audio Concat"),
    "GetAudioDuration": Entry("helpers.sound", "Get Audio Duration"),
    "MelBandRoFormerModelLoader": Entry("helpers.separation", "Mel-Band RoFormer Model Loader"),
    "MelBandRoFormerSampler": Entry("helpers.separation", "Mel-Band RoFormer Sampler"),
    "AudioSeparation": Entry("helpers.separation", "AudioSeparation"),
    "INTConstant": Entry("helpers.values", "INT Constant"),
    "FloatConstant": Entry("helpers.values", "Float Constant"),
    "StringConstant": Entry("helpers.values", "String Constant"),
    "StringConstantMultiline": Entry("helpers.values", "String Constant Multiline"),
    "BOOLConstant": Entry("helpers.values", "BOOL Constant"),
    "PrimitiveInt": Entry("helpers.values", "Int"),
    "PrimitiveFloat": Entry("helpers.values", "Float"),
    "PrimitiveString": Entry("helpers.values", "String"),
    "PrimitiveStringMultiline": Entry("helpers.values", "String (Multiline)"),
    "PrimitiveBoolean": Entry("helpers.values", "Boolean"),
    "PreviewAny": Entry("helpers.values", "Preview Any"),
    "Display Any (rgthree)": Entry("helpers.values", "Display Any", "PreviewAny"),
    "SimpleMath+": Entry("helpers.arithmetic", "Simple Math", "SimpleMath"),
    "MathExpression|pysssss": Entry("helpers.arithmetic", "Math Expression", "MathExpression"),
    "SimpleCalculatorKJ": Entry("helpers.arithmetic", "Simple Calculator KJ"),
    "ImpactInt": Entry("helpers.arithmetic", "ImpactInt"),
    "ImpactFloat": Entry("helpers.arithmetic", "ImpactFloat"),
    "CM_IntToFloat": Entry("helpers.arithmetic", "IntToFloat", "IntToFloat"),
    "CM_FloatToInt": Entry("helpers.arithmetic", "FloatToInt", "FloatToInt"),
    "CM_IntBinaryOperation": Entry("helpers.arithmetic", "IntBinaryOperation", "IntBinaryOperation"),
    "VHS_VideoCombine": Entry("helpers.saving", "Video Combine"),
    "CreateVideo": Entry("helpers.video", "Create Video"),
    "SaveVideo": Entry("helpers.saving", "Save Video"),
    "SaveImage": Entry("helpers.saving", "Save Image"),
    "PreviewImage": Entry("helpers.saving", "Preview Image"),
    "PreviewAudio": Entry("helpers.saving", "Preview Audio"),
}
"""Nodes that ComfyUI or other packs have themselves, for use without them; never registered in ComfyUI."""


def node_class(name: str) -> type[Any]:
    """The class of a node, imported now.

    Raises:
        UsageError: there is no such node.
    """
    entry = NODES.get(name) or BESIDE.get(name)
    if entry is None:
        raise UsageError(f"There is no node called {name!r}.", code="unknown_node")
    found: type[Any] = getattr(import_module(f"infinite_talk.nodes.{entry.module}"), entry.class_name or name)
    return found


def class_mappings() -> dict[str, type[Any]]:
    """All nodes by name; imports every module."""
    return {name: node_class(name) for name in NODES}


def display_names() -> dict[str, str]:
    """Names for people by node."""
    return {name: entry.title for name, entry in NODES.items()}
