"""LoRA at run time: beside every precision it is ``W + s * delta``, and strengths change at their step."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st
from torch import Tensor, nn

from infinite_talk.denoise.denoiser import Plain, Question
from infinite_talk.denoise.guidance import Branch
from infinite_talk.denoise.loop import denoise
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.denoise.schedules import timesteps
from infinite_talk.denoise.strengths import WithStrengths, varying_strengths
from infinite_talk.errors import CheckpointError, UsageError
from infinite_talk.memory.streaming import stream_blocks
from infinite_talk.models.dit import WanTransformer
from infinite_talk.ops.linear import Packed, PackedLinear, takes_float8
from infinite_talk.ops.linear.fast8 import FP8_E4M3FN_FAST
from infinite_talk.ops.linear.gguf import Q4_0, Q4_K, Q5_1, Q6_K, Q8_0, Blocks
from infinite_talk.ops.linear.lora import LoRALinear, Strengths, Terms
from infinite_talk.ops.linear.rows import float8_rows
from infinite_talk.ops.linear.scaled import INT8
from infinite_talk.settings import Quantization
from infinite_talk.types import Guide
from infinite_talk.weights.builder import build
from infinite_talk.weights.lora import Merging, attach, read_adapter
from infinite_talk.weights.lora.adapter import Adapter
from infinite_talk.weights.precision import FORMATS, Policy
from tests.unit.lora.files import DIALECTS, Random, merged_by_hand, plain_model, random_lora, written
from tests.unit.tiny_dit import CONFIG, TIMES, inputs, latent, noise

SLOW = [q for q in Quantization if "fast" not in q]  # whose product is one with the unpacked weight


def adapter_of(lora: Random, strength: float | tuple[float, ...] = 1.0, source: str = "the LoRA") -> Adapter:
    return read_adapter(written(lora, lambda name: name), strength=strength, source=source)


def in_precision(kind: Quantization, dtype: torch.dtype = torch.float32) -> WanTransformer:
    policy = Policy(kind, FORMATS[kind])
    return build(lambda: WanTransformer(CONFIG), plain_model().state_dict(), policy=policy, dtype=dtype)


def unpacked(model: nn.Module) -> dict[str, Tensor]:
    """The plain weights of a model in any precision."""
    state = {name: tensor for name, tensor in model.state_dict().items() if ".weight_" not in name}
    packed = {n: m for n, m in model.named_modules() if isinstance(m, PackedLinear)}
    return state | {f"{name}.weight": module.packed.unpack() for name, module in packed.items()}


class Holder(nn.Module):
    """Gives ``merged_by_hand`` a state."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        self.state = state

    def state_dict(self, *args, **kwargs):
        return self.state


@torch.no_grad()
def predicted(model: WanTransformer) -> Tensor:
    return model(latent(), TIMES, model.condition(**inputs()))


class TestLayer:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("kind", Quantization)
    def test_beside_every_precision(self, kind: Quantization, dtype: torch.dtype) -> None:
        weight, bias = noise(64, 48, seed=0) / 7, noise(64, seed=1)
        packed = FORMATS[kind]
        if packed is None:
            base: nn.Module = nn.Linear(48, 64)
            base.load_state_dict({"weight": weight, "bias": bias})
            base.to(dtype)
        else:
            base = PackedLinear(Packed(packed, (64, 48), packed.pack(weight)), bias.to(dtype), dtype)
        base.requires_grad_(False)
        strengths = Strengths([0.7, (0.2, -3.0)])
        ups, downs = (
            [noise(64, r, seed=r) / 9 for r in (4, 5)],
            [noise(r, 48, seed=r + 10) / 9 for r in (4, 5)],
        )
        layer = LoRALinear(
            base,
            Terms(
                strengths,
                (torch.cat(ups, 1).to(dtype), torch.cat(downs).to(dtype), ((0, 0.5, 4), (1, 2.0, 5))),
                (noise(1, 64, 48, seed=20).to(dtype) / 9, ((1, 1.0, 1),)),
            ),
        )
        x = noise(2, 7, 48, seed=30).to(dtype)
        bound = {torch.float32: 1e-5, torch.bfloat16: 0.03, torch.float16: 4e-3}[dtype]
        for step, second in enumerate((0.2, -3.0)):
            strengths.at_step(step)
            delta = 0.35 * ups[0] @ downs[0] + second * (2 * ups[1] @ downs[1] + noise(64, 48, seed=20) / 9)
            beside = (layer(x) - base(x)).float()
            expected = x.float() @ delta.T
            assert (beside - expected).norm() < bound * expected.norm() + bound * base(x).float().norm()
            total = layer.weight.float() - base.weight.float()
            assert (total - delta).norm() <= bound * (delta.norm() + weight.norm())

    @budget(deadline=None, max_examples=40)
    @given(
        adapters=st.lists(
            st.tuples(st.integers(1, 9), st.floats(-4, 4, width=32), st.sampled_from([0.25, 1.0, 3.0])),
            min_size=1,
            max_size=4,
        ),
        seed=st.integers(0, 50),
    )
    def test_any_ranks_and_strengths(self, adapters: list[tuple[int, float, float]], seed: int) -> None:
        strengths = Strengths([strength for _, strength, _ in adapters])
        ups = [noise(12, rank, seed=seed + i) for i, (rank, *_) in enumerate(adapters)]
        downs = [noise(rank, 10, seed=seed + 100 + i) for i, (rank, *_) in enumerate(adapters)]
        columns = tuple((i, factor, rank) for i, (rank, _, factor) in enumerate(adapters))
        base = nn.Linear(10, 12).double().requires_grad_(False)
        layer = LoRALinear(
            base, Terms(strengths, (torch.cat(ups, 1).double(), torch.cat(downs).double(), columns), None)
        )
        x = noise(5, 10, seed=seed).double()
        delta = sum(
            s * f * up.double() @ down.double()
            for (_, s, f), up, down in zip(adapters, ups, downs, strict=True)
        )
        torch.testing.assert_close(layer(x), base(x) + x @ delta.T, atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("whole", [False, True])
    def test_activations_in_8_bits_are_taken_where_the_layer_takes_them(
        self, monkeypatch: pytest.MonkeyPatch, whole: bool
    ) -> None:
        low = (noise(64, 6, seed=1), noise(6, 48, seed=2), ((0, 1.0, 6),))
        terms = Terms(Strengths([0.5]), low, (noise(1, 64, 48, seed=3), ((0, 1.0, 1),)) if whole else None)
        base = PackedLinear(
            Packed(FP8_E4M3FN_FAST, (64, 48), FP8_E4M3FN_FAST.pack(noise(64, 48, seed=4))),
            None,
            torch.bfloat16,
        )
        layer = LoRALinear(base, terms)
        assert not takes_float8(layer, dtype=torch.bfloat16)  # CPUs multiply them as plain numbers
        monkeypatch.setattr("infinite_talk.ops.linear.fast8.has_float8", lambda _device: True)
        assert takes_float8(base, dtype=torch.bfloat16)
        assert takes_float8(layer, dtype=torch.bfloat16) is not whole
        monkeypatch.undo()
        if not whole:
            rows = float8_rows(noise(5, 48, seed=5).to(torch.bfloat16))
            found = terms.add_product(torch.zeros(5, 64, dtype=torch.bfloat16), rows)
            assert torch.equal(
                found, terms.add_product(torch.zeros(5, 64, dtype=torch.bfloat16), rows.plain())
            )

    def test_what_comes_in_is_left_alone(self) -> None:
        layer = LoRALinear(
            nn.Linear(4, 4).requires_grad_(False),
            Terms(Strengths([1.0]), (torch.ones(4, 1), torch.ones(1, 4), ((0, 1.0, 1),)), None),
        )
        x = noise(3, 4, seed=0)
        layer(x)
        assert torch.equal(x, noise(3, 4, seed=0))


class TestAttach:
    @pytest.mark.parametrize("kind", SLOW)
    def test_a_model_in_every_precision(self, kind: Quantization) -> None:
        one, two = random_lora(1), random_lora(2, rank=5, speech=False)
        made = in_precision(kind)
        twin = merged_by_hand([(one, 0.6), (two, -0.4)], Holder(unpacked(made)))
        strengths = attach(made, [adapter_of(one, 0.6), adapter_of(two, -0.4)])
        assert not strengths.varies
        torch.testing.assert_close(predicted(made), predicted(twin), atol=1e-4, rtol=1e-4)

    @pytest.mark.parametrize("kind", [q for q in Quantization if "fast" in q])
    def test_a_model_whose_activations_are_packed(self, kind: Quantization) -> None:
        """The product differs from the twin's by the activations' rounding, as it does without a LoRA."""
        lora, made = random_lora(1), in_precision(kind)
        without = (predicted(made) - predicted(merged_by_hand([], Holder(unpacked(made))))).norm()
        twin = merged_by_hand([(lora, 0.6)], Holder(unpacked(made)))
        attach(made, [adapter_of(lora, 0.6)])
        assert (predicted(made) - predicted(twin)).norm() < 3 * without
        assert (predicted(made) - predicted(in_precision(kind))).norm() > 5 * without

    @pytest.mark.parametrize("dialect", ["lightx2v", "kohya", "diffusers"])
    def test_dialects(self, dialect: str) -> None:
        lora, made = random_lora(), plain_model()
        attach(made, [read_adapter(DIALECTS[dialect](lora))])
        torch.testing.assert_close(
            predicted(made), predicted(merged_by_hand([(lora, 1.0)])), atol=1e-4, rtol=1e-4
        )

    def test_other_products_and_whole_differences(self) -> None:
        tensors = {
            "blocks.0.ffn.0.hada_w1_a": noise(64, 2, seed=1) / 3, "blocks.0.ffn.0.hada_w1_b": noise(2, 48, seed=2) / 3,
            "blocks.0.ffn.0.hada_w2_a": noise(64, 2, seed=3) / 3, "blocks.0.ffn.0.hada_w2_b": noise(2, 48, seed=4) / 3,
            "blocks.1.ffn.2.lokr_w1": noise(8, 4, seed=5) / 9, "blocks.1.ffn.2.lokr_w2": noise(6, 16, seed=6) / 9,
            "blocks.0.self_attn.v.diff": noise(48, 48, seed=7) / 9,
            "patch_embedding.diff": noise(48, 16, 1, 2, 2, seed=8) / 9,
        }  # fmt: skip
        state = plain_model().state_dict()
        adapter = read_adapter(tensors, strength=0.5)
        for name, (addition,) in adapter.additions.items():
            state[name] = state[name] + 0.5 * addition.delta.of(state[name])
        for strength in (0.5, (0.5, 1.0)):
            made = plain_model()
            attach(made, [read_adapter(tensors, strength=strength)])
            torch.testing.assert_close(
                predicted(made), predicted(merged_by_hand([], Holder(state))), atol=1e-4, rtol=1e-4
            )

    @pytest.mark.parametrize("strength", [0.5, (0.5, 1.0)])
    def test_layers_outside_the_blocks_that_a_file_has_packed(
        self, strength: float | tuple[float, ...]
    ) -> None:
        """Files of optimum-quanto have every linear layer packed, those that run in float32 too."""
        state = plain_model().state_dict()
        linear = [n for n, t in state.items() if t.dim() == 2]
        packed = {n: Packed(INT8, tuple(state[n].shape), INT8.pack(state[n])) for n in linear}
        policy = Policy(Quantization.DISABLED, None)
        made = build(lambda: WanTransformer(CONFIG), state | packed, policy=policy, dtype=torch.float32)
        assert isinstance(made.head.head, PackedLinear)
        twin = merged_by_hand([], Holder(unpacked(made)))
        torch.testing.assert_close(predicted(made), predicted(twin), atol=1e-4, rtol=1e-4)
        twin = merged_by_hand([(random_lora(), 0.5)], Holder(unpacked(made)))
        attach(made, [adapter_of(random_lora(), strength)])
        torch.testing.assert_close(predicted(made), predicted(twin), atol=1e-4, rtol=1e-4)

    def test_blocks_stream_with_it(self) -> None:
        made, streamed = (in_precision(Quantization.INT8) for _ in range(2))
        lora = random_lora()
        strengths = [attach(net, [adapter_of(lora, (1.0, 0.5, 0.0))]) for net in (made, streamed)]
        stream_blocks(streamed, 1, 1, torch.device("cpu"))
        for step in (0, 1, 2):
            assert strengths[0].at_step(step) == strengths[1].at_step(step)
            assert torch.equal(predicted(made), predicted(streamed))

    def test_strength_zero_changes_nothing_at_all(self) -> None:
        made = plain_model()
        attach(made, [adapter_of(random_lora(), 0.0)])
        assert not any(isinstance(module, LoRALinear) for module in made.modules())
        assert torch.equal(predicted(made), predicted(plain_model()))

    def test_its_tensors_belong_to_the_blocks(self) -> None:
        """Whoever moves the tensors of a block to other memory moves the adapters too."""
        made = in_precision(Quantization.INT8)
        strengths = attach(made, [adapter_of(random_lora(), (1.0, 0.5))])
        exact = predicted(made)
        for block in made.blocks:
            for tensor in (*block.parameters(), *block.buffers()):
                tensor.data = tensor.data.clone()
        torch.testing.assert_close(predicted(made), exact)
        inside = {id(b) for block in made.blocks for b in block.buffers()}
        assert {id(b) for b in strengths.buffers()} & inside == set()
        assert "0.self_attn.q.terms.up" in dict(made.blocks.named_buffers())

    def test_a_copy_has_strengths_of_its_own(self) -> None:
        made = plain_model()
        strengths = attach(made, [adapter_of(random_lora(), (1.0, 0.0))])
        other = copy.deepcopy(made)
        exact = predicted(made)
        strengths.at_step(1)
        torch.testing.assert_close(predicted(made), predicted(plain_model()), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(predicted(other), exact)

    def test_in_half_precision(self) -> None:
        lora = random_lora()
        made = in_precision(Quantization.INT8, torch.bfloat16)
        twin = merged_by_hand([(lora, 1.0)], Holder({n: t.float() for n, t in unpacked(made).items()}))
        attach(made, [adapter_of(lora)])
        assert made.blocks[0].ffn[0].terms.up.dtype == torch.bfloat16
        error = (predicted(made) - predicted(twin)).norm() / predicted(twin).norm()
        assert error < 0.05

    @pytest.mark.parametrize(
        ("bad", "error", "match"),
        [
            ({"blocks.5.ffn.0.diff_b": torch.ones(64)}, CheckpointError, "without a target"),
            ({"blocks.1.ffn.0.diff_b": torch.ones(63)}, CheckpointError, "another shape"),
            ({"blocks.1.ffn.0.diff": torch.full((64, 48), torch.nan)}, CheckpointError, "NaN"),
            ({"head.head.diff_b": torch.full((64,), torch.inf)}, CheckpointError, "infinite"),
            (
                {
                    "blocks.1.ffn.0.lora_A.weight": torch.ones(1, 48),
                    "blocks.1.ffn.0.lora_B.weight": torch.ones(64, 1),
                    "blocks.1.ffn.0.dora_scale": torch.ones(64, 1),
                },
                UsageError,
                "DoRA.*[Mm]erge",
            ),
        ],
    )  # fmt: skip
    def test_an_error_leaves_the_model_as_it_was(
        self, bad: dict[str, Tensor], error: type[Exception], match: str
    ) -> None:
        made = plain_model()
        with pytest.raises(error, match=match) as caught:
            attach(made, [adapter_of(random_lora()), read_adapter(bad, source="bad.safetensors")])
        assert "bad.safetensors" in str(caught.value)
        assert list(made.state_dict()) == list(plain_model().state_dict())
        assert torch.equal(predicted(made), predicted(plain_model()))


class TestStrengths:
    ROWS = (1.0, 1.0, 0.25, 0.0)
    LORA, OTHER = random_lora(1), random_lora(2, rank=4)

    def test_each_step_has_its_own(self) -> None:
        """Every parameter follows: products, norms, biases, modulations, embeddings, the head."""
        made = in_precision(Quantization.DISABLED)
        strengths = attach(made, [adapter_of(self.LORA, self.ROWS), adapter_of(self.OTHER, 0.5)])
        assert strengths.varies
        assert strengths.distinct == ((1.0, 0.5), (0.25, 0.5), (0.0, 0.5))
        changed = []
        for step in (0, 1, 2, 3, 7, 0, 2):
            changed.append(strengths.at_step(step))
            twin = merged_by_hand([(self.LORA, self.ROWS[min(step, 3)]), (self.OTHER, 0.5)])
            torch.testing.assert_close(predicted(made), predicted(twin), atol=1e-4, rtol=1e-4)
        assert changed == [False, False, True, True, False, True, True]

    def test_the_last_of_a_shorter_list_holds_on(self) -> None:
        assert Strengths([(1.0, 2.0), (3.0, 4.0, 5.0)]).distinct == ((1.0, 3.0), (2.0, 4.0), (2.0, 5.0))
        assert Strengths([]).distinct == ((),)
        assert not Strengths([]).at_step(4)

    def test_nothing_is_compiled_again(self) -> None:
        made = in_precision(Quantization.INT8)
        strengths = attach(made, [adapter_of(self.LORA, self.ROWS)])
        torch._dynamo.reset()
        graphs = []

        def backend(graph, examples):
            graphs.append(graph)
            return graph.forward

        block = made.blocks[1]

        def piece(x: Tensor) -> Tensor:  # products, a bias and a modulation that follow the strengths
            return block.ffn(x) * block.modulation[:, 0]

        compiled = torch.compile(piece, backend=backend, fullgraph=True)
        x, results = noise(2, 5, 48, seed=1), []
        for step in range(4):
            strengths.at_step(step)
            with torch.no_grad():
                results.append(compiled(x))
                torch.testing.assert_close(results[-1], piece(x))
        assert not torch.equal(results[1], results[2])
        assert len(graphs) == 1
        torch._dynamo.reset()


def guide(seed: int = 0) -> Guide:
    given = inputs(batch=1, seed=seed)
    return Guide(
        text=given["text"][0],
        negative=noise(3, CONFIG.text_dim, seed=seed + 50),
        image=given["image"][0],
        reference=given["reference"][0],
        speech=given["speech"][0],
        token_masks=given["token_masks"][0],
        motion=noise(16, 1, *given["reference"].shape[3:], seed=seed + 60),
    )


class EachStepAnew:
    """The slow twin: for every question a model merged for its step, and its own condition."""

    def __init__(self, models: list[WanTransformer]) -> None:
        self.models = models

    def condition(self, guide: Guide, branch: Branch):
        self.guide = guide
        return Plain(self.models[0]).condition(guide, branch)

    def velocity(self, latent: Tensor, question: Question) -> Tensor:
        plain = Plain(self.models[question.step])
        condition = plain.condition(self.guide, question.branch)
        return plain.velocity(latent, Question(question.step, question.time, question.branch, condition))


class TestDenoising:
    ROWS = (1.0, 1.0, 0.0, 0.5)

    @torch.no_grad()
    def test_conditions_follow_the_strengths(self) -> None:
        lora, made = random_lora(), plain_model()
        strengths = attach(made, [adapter_of(lora, self.ROWS)])
        sampler = Sampler(timesteps(4, 3.0), text_guidance=3.0, audio_guidance=2.0)
        twin = EachStepAnew([merged_by_hand([(lora, s)]) for s in self.ROWS])
        followed = WithStrengths(Plain(made), strengths)
        for window in range(2):  # the second begins with the strengths of the first step again
            start = noise(16, *guide().reference.shape[1:], seed=70 + window)
            found = denoise(followed, sampler, guide(window), start)
            torch.testing.assert_close(
                found, denoise(twin, sampler, guide(window), start), atol=1e-3, rtol=1e-3
            )

    def test_conditions_are_computed_once_for_each_change_and_branch(self) -> None:
        asked: list[tuple[int, Branch]] = []
        step = 0

        class Counting(Plain):
            def condition(self, guide: Guide, branch: Branch):
                asked.append((step, branch))
                return super().condition(guide, branch)

        class Counted(Strengths):
            def at_step(self, number: int) -> bool:
                nonlocal step
                step = number
                return super().at_step(number)

        made = plain_model()
        strengths = attach(made, [adapter_of(random_lora(), self.ROWS)])
        strengths.__class__ = Counted
        sampler = Sampler(timesteps(4, 3.0), text_guidance=1.0, audio_guidance=2.0)
        start = noise(16, *guide().reference.shape[1:], seed=1)
        denoise(WithStrengths(Counting(made), strengths), sampler, guide(), start)
        assert asked == [(s, branch) for s in (0, 2, 3) for branch in (Branch.COND, Branch.DROP_AUDIO)]

    def test_only_strengths_that_vary_are_followed(self) -> None:
        for strength, varies in ((1.0, False), (self.ROWS, True)):
            made = plain_model()
            strengths = attach(made, [adapter_of(random_lora(), strength)])
            assert varying_strengths(made) is (strengths if varies else None)
        assert varying_strengths(plain_model()) is None


class TestGGUF:
    """Weights in blocks of a GGUF file; the rows of 64 numbers of one layer fit the smaller ones."""

    NAME = "blocks.1.ffn.2.weight"

    def with_blocks(self, kind: Blocks) -> dict[str, Tensor | Packed]:
        state = plain_model().state_dict()
        return state | {self.NAME: Packed(kind, (48, 64), kind.pack(state[self.NAME]))}

    @pytest.mark.parametrize("kind", [Q8_0, Q5_1, Q4_0], ids=lambda kind: kind.name)
    def test_beside_blocks(self, kind: Blocks) -> None:
        """Asked to merge, the weight in blocks is left and the others take it."""
        lora, state = random_lora(), self.with_blocks(kind)
        shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
        merging = Merging([adapter_of(lora, 0.5)], Policy(Quantization.GGUF, None), shapes, fallback=Q8_0)
        made = build(lambda: WanTransformer(CONFIG), state, policy=merging, dtype=torch.float32)
        (rest,) = merging.rest
        assert rest.touches == (self.NAME,)
        attach(made, [rest])
        plain = {n: t.unpack() if isinstance(t, Packed) else t for n, t in state.items()}
        twin = merged_by_hand([(lora, 0.5)], Holder(plain))
        torch.testing.assert_close(predicted(made), predicted(twin), atol=1e-4, rtol=1e-4)

    @pytest.mark.parametrize("kind", [Q4_K, Q6_K], ids=lambda kind: kind.name)
    def test_a_dora_on_blocks_that_are_read_only_makes_them_q8_0(self, kind: Blocks) -> None:
        generator = torch.Generator().manual_seed(0)
        data = torch.randint(0, 256, (4, kind.nbytes), generator=generator, dtype=torch.uint8)
        scales = {"Q4_K": (0, 2), "Q6_K": (208,)}[kind.name]
        for place in scales:  # any bits are a half float, but not a finite one
            data[:, place : place + 2] = torch.full((4, 1), 0.01, dtype=torch.float16).view(torch.uint8)
        value = Packed(kind, (4, 256), {"data": data})
        name, layer = "blocks.0.ffn.0.weight", "blocks.0.ffn.0"
        up, down = noise(4, 2, seed=1), noise(2, 256, seed=2)
        tensors = {
            f"{layer}.lora_B.weight": up,
            f"{layer}.lora_A.weight": down,
            f"{layer}.dora_scale": torch.ones(4, 1),
        }
        merging = Merging(
            [read_adapter(tensors)], Policy(Quantization.DISABLED, None), {name: (4, 256)}, fallback=Q8_0
        )
        kept = merging.store(name, value, torch.bfloat16)
        assert isinstance(kept, Packed)
        assert kept.format == Q8_0
        updated = value.unpack() + up @ down
        torch.testing.assert_close(
            kept.unpack(), updated / updated.norm(dim=1, keepdim=True), atol=0.01, rtol=0
        )
        assert f"unpacked from {kind.name} and packed again as Q8_0" in merging.notes[0]
