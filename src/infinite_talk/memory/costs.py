"""Arithmetic of every stage: bytes on the device and operations, counted from sizes before anything is loaded.

What a stage needs is written as ``Need``: ``activations`` live through all of it, ``workspace`` at its worst
moment. Weights are added by the planner, which decides where they live.
"""

from __future__ import annotations

from dataclasses import dataclass

from infinite_talk.memory.codec import decode_pass, encode_pass, halo, rising_pass, start_pass
from infinite_talk.memory.sizes import Encoder, ModelSizes
from infinite_talk.memory.work import Work
from infinite_talk.memory.workspace import block_workspace, condition_bytes
from infinite_talk.models.dit import DiTConfig
from infinite_talk.models.vae import VAEConfig
from infinite_talk.ops.linear import Format

SPEECH_CHUNK = 2000
"""Video frames that the speech encoder hears at once: 1500 and 250 on either side (``models/speech``)."""
_PIECE = 4096
"""Rows that ``ops/linear`` codes at a time."""


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes of one stage beside weights."""

    activations: float
    workspace: float

    @property
    def bytes(self) -> float:
        return self.activations + self.workspace


def conditions_bytes(config: DiTConfig, work: Work, base: int, *, kept: bool) -> float:
    """What all branches keep for a window; those without speech hear one silent person."""

    def of(people: int) -> float:
        tokens = work.tokens(config.patch_size)
        return float(condition_bytes(config, tokens, work.latents, base, people=people, kept=kept))

    return (work.branches - work.silent) * of(work.people) + work.silent * of(1)


def linear_workspace(config: DiTConfig, kept: Format | None, rows: int, base: int) -> float:
    """What a product in a format takes beside its input and output, for the largest matrix of a block.

    Weights only: the weight widened, for 4 bits with the numbers of its bytes. Both operands: the activations
    scaled and coded.
    """
    if kept is None:
        return 0.0
    weight = config.dim * config.ffn_dim
    if kept.name.startswith("int8_fast"):  # two wider copies of a piece, then the codes
        return float(min(rows, _PIECE) * config.ffn_dim * 9)
    if kept.name.startswith("fp4_scaled_fast"):
        return float((min(rows, _PIECE) * 16 + rows * 0.6) * config.ffn_dim)
    if kept.name.endswith("_fast"):  # scaled in their own dtype, then in 8 bits
        return float(rows * config.ffn_dim * (base + 1))
    narrow = kept.name.startswith(("nf4", "fp4"))
    return float(weight * (base + (2 if narrow else 0)))


def denoise_need(model: ModelSizes, work: Work, rows: int | None, *, kept: bool) -> Need:
    """All steps of a window: conditions of all branches, latents, the tokens, one block at work."""
    config, base = model.transformer, model.base
    tokens = work.tokens(config.patch_size)
    latent = 4.0 * config.out_dim * work.latents * work.places
    # The latent and its noise, an answer for each branch and two sums; the guide has the reference's channels.
    latents = latent * (4 + work.branches) + 4.0 * config.reference_dim * work.latents * work.places
    stream = float(tokens * config.dim * base)
    block = float(block_workspace(config, tokens, base, rows, people=work.people))
    block += linear_workspace(config, model.format, min(rows or tokens, tokens), base)
    # The time embedding widens its largest matrix to float32 while the tokens wait.
    time = 24.0 * config.dim**2
    return Need(conditions_bytes(config, work, base, kept=kept) + latents + stream, max(block, time))


def decode_need(model: ModelSizes, work: Work, frames: int, tile: int | None) -> Need:
    """A window decoded ``frames`` frames at a time, in tiles of ``tile`` pixels a side where given.

    Between pieces lives the video; tiles also keep what the decoder's middle made of the whole latent.
    """
    config, base = model.vae, model.vae_base
    latents = max(1, frames // config.temporal_stride)
    latent = 4.0 * config.z_dim * work.latents * work.places
    finished = work.video + latent
    colours = 2 * work.video  # correction and rounding make copies when the codec has let go
    if tile is None:
        whole = latents >= work.latents
        need = decode_pass(config, work.places, work.latents if whole else latents, base, whole=whole)
        return Need(finished, max(need.work + need.state, colours))
    middle = float(base * config.dim * config.dim_mult[-1] * work.latents * work.places)
    places = tile_places(config, work, tile)
    rising = rising_pass(config, places, latents, base)
    start = start_pass(config, work.places, latents, base)
    started = start.work + start.state
    return Need(finished + middle, max(rising.work + rising.state, started, colours - middle))


def tile_places(config: VAEConfig, work: Work, tile: int) -> int:
    """Latent positions of the largest tile with its halo."""
    sides = []
    for pixels, cells in zip((work.size.height, work.size.width), work.size.latent, strict=True):
        stride = pixels // cells
        core = min(cells, max(1, tile // stride))
        # A tile at the picture's edge has a halo on one side only; with one tile there is none.
        sides.append(min(cells, core + 2 * halo(config)) if core < cells else cells)
    return sides[0] * sides[1]


def encode_need(model: ModelSizes, work: Work, frames: int, tile: int | None = None) -> Need:
    """The reference video of a window encoded: its frames, then piece by piece as ``encode_chunks`` does."""
    config = model.vae
    whole = frames >= work.frames
    piece = work.frames if whole else config.temporal_stride
    pixels = work.pixels
    if tile is not None:
        pixels = tile_places(config, work, tile) * config.spatial_stride**2
    need = encode_pass(config, pixels, piece, model.vae_base, whole=whole and tile is None)
    latent = 4.0 * config.z_dim * work.latents * work.places
    return Need(work.video + latent, need.work + need.state)


def pass_flops(config: DiTConfig, tokens: int) -> tuple[float, float]:
    """Operations of one pass in matrices and in attention.

    Matrices: 8 D^2 + 2 D F weights for each token. Keys and values of text, image and speech do not count:
    they are computed once.
    """
    dim, layers = config.dim, config.num_layers
    context = config.text_len + config.clip_tokens + config.context_tokens
    matrices = 2.0 * tokens * (8 * dim**2 + 2 * dim * config.ffn_dim)
    attention = 4.0 * tokens * (tokens + context) * dim
    return layers * matrices, layers * attention


def frame_flops(config: VAEConfig, pixels: int) -> float:
    """Operations of decoding one frame: 3 x 3 x 3 convolutions, two in a block, finest level first."""
    total, halvings = 0.0, 0
    for level, factor in enumerate(config.dim_mult):
        channels = config.dim * factor
        convolutions = 2 * (config.num_res_blocks + 1)
        voxels = pixels / config.patch**2 / 4**level / 2**halvings
        total += voxels * convolutions * 2 * 27 * channels**2
        if level < len(config.temporal_downsample):
            halvings += config.temporal_downsample[level]
    return total


def tiles_share(config: VAEConfig, work: Work, tile: int | None) -> float:
    """How much more the codec computes in tiles with halos than without."""
    if tile is None:
        return 1.0
    share = 1.0
    for pixels, cells in zip((work.size.height, work.size.width), work.size.latent, strict=True):
        core = min(cells, max(1, tile // (pixels // cells)))
        count = -(-cells // core)
        share *= min(count * cells, cells + 2 * halo(config) * (count - 1)) / cells
    return share


def text_encoder(
    *, parameters: int, layers: int, vocabulary: int, dim: int, ffn: int, heads: int, length: int, base: int
) -> Encoder:
    """A T5 encoder: per token the stream and the gated layer, scores and position bias of one layer."""
    stream = length * (6 * dim + 4 * ffn) * base
    scores = 4 * heads * length**2 * 4
    layer = base * (parameters - vocabulary * dim) / layers
    return Encoder(
        float(base * parameters), float(stream + scores), 2.0 * layers * layer / base * length, layers, layer
    )


def vision_encoder(*, weights: float, parameters: float, dim: int, ratio: int, tokens: int) -> Encoder:
    """A CLIP tower on one picture, in float32."""
    return Encoder(
        weights, 4.0 * tokens * dim * (6 + 2 * ratio) + 4.0 * 3 * 4096**2, 2.0 * parameters * tokens
    )


def speech_encoder(
    *, weights: float, parameters: float, dim: int, layers: int, conv: int, seconds: float
) -> Encoder:
    """wav2vec 2.0 on one chunk, in float32: the first convolution's output, with norm and activation."""
    heard = min(seconds, SPEECH_CHUNK / 25)
    first = 3 * 4.0 * conv * heard * 3200  # 16 kHz in steps of 5 samples
    outputs = 4.0 * 25 * seconds * layers * dim
    return Encoder(weights, first + outputs, 2.0 * parameters * 25)
