"""Orders: what is sent becomes the request that it says, or an error that names the field."""

from __future__ import annotations

import base64
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from infinite_talk import APG, AudioLayout, Box, EasyCache, LoRA, Request, Settings, Speaker
from infinite_talk.frontends.http.envelope import Refusal
from infinite_talk.frontends.http.fields import ELSEWHERE, MEDIA, VideoFields, read_fields
from infinite_talk.jobs.limits import Limits
from infinite_talk.jobs.node_options import NodeOptions, Resize
from tests.unit.http.service import AUDIO, BAD, FORM, PICTURE, Service, error, service

IMAGE = Path("inputs/image")
ONE = (Speaker(audio=Path("inputs/audio")),)


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


JSON = {
    "input_reference": {"image_url": data_url(PICTURE)},
    "audio_reference": {"audio_url": data_url(AUDIO, "audio/wav")},
}


def ordered(served: Service, **fields: Any) -> Request:
    """The request of an order, as the worker will see it."""
    return served.desk.get(served.order(**fields)["id"]).order.request


def refused(served: Service, files: Any = FORM, **fields: Any) -> tuple[int, str, str | None]:
    answer = served.client.post("/v1/videos", files=files, data=fields)
    assert not served.desk.list(), "nothing may be left of an order that was refused"
    assert not list(served.desk.folder.jobs.iterdir())
    return error(answer)


def test_a_form_with_files(served: Service) -> None:
    told = served.order(prompt="a face", seed="7")
    job = served.desk.get(told["id"])
    assert job.order.request == Request(image=IMAGE, speakers=ONE, prompt="a face", seed=7)
    assert [file.name for file in job.order.files] == ["me.wav", "me.png"]
    assert (served.desk.folder.of(job.id) / "inputs/image").read_bytes() == PICTURE
    assert (served.desk.folder.of(job.id) / "inputs/audio").read_bytes() == AUDIO
    assert (told["status"], told["progress"], told["size"], told["seconds"]) == ("queued", 0, "32x32", "0.52")
    assert (told["object"], told["model"], told["prompt"]) == ("video", "default", "a face")
    assert told["created_at"] > 1_700_000_000
    for name in ("completed_at", "expires_at", "error", "remixed_from_video_id"):
        assert told[name] is None


@pytest.mark.parametrize("nested", [False, True])
def test_json_with_data_urls_is_the_same_order(served: Service, nested: bool) -> None:
    form = ordered(served, prompt="x")
    body = {**JSON, "prompt": "x"}
    if nested:  # as clients send it that put JSON into a form: an object as text
        body = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in body.items()}
    else:
        body["input_reference"] = data_url(PICTURE)  # type: ignore[assignment]
    answer = served.client.post("/v1/videos", json=body)
    assert answer.status_code == 200, answer.text
    assert served.desk.get(answer.json()["id"]).order.request == form


def test_objects_in_a_form_may_be_written_with_brackets(served: Service) -> None:
    files = {"input_reference": FORM["input_reference"]}
    assert refused(served, **{"seed[x]": "1", "seed": "2"}) == (400, "repeated_field", "seed")
    told = served.order(
        files, **{"audio_reference[audio_url]": data_url(AUDIO), "extra_params[audio_end]": "2"}
    )
    request = served.desk.get(told["id"]).order.request
    assert (request.speakers, request.audio_end) == (ONE, 2.0)


def test_what_is_no_picture_is_a_video(served: Service) -> None:
    files = {**FORM, "input_reference": ("a.png", b"\0\0\0\x20ftypisom" + bytes(9))}
    told = served.order(files)
    assert served.desk.get(told["id"]).order.request.video == Path("inputs/video")


def test_all_fields_have_an_effect(served: Service) -> None:
    request = ordered(
        served,
        negative_prompt="blur",
        seconds="0.4",
        size="480",
        fps="25",
        num_inference_steps="9",
        guidance_scale="3.5",
        audio_guidance_scale="2.5",
        flow_shift="5",
        window_frames="17",
        motion_frames="5",
        bbox="0,1,20,30.5",
        extra_params=json.dumps(
            {
                "audio_layout": "in_turn",
                "audio_start": 0.5,
                "audio_end": 2,
                "scheduler": "unipc",
                "apg": {"momentum": -0.5},
                "step_cache": {"kind": "easycache", "threshold": 0.3},
                "colour_strength": 0.5,
                "compat": "official",
            }
        ),
    )
    assert request == Request(
        image=IMAGE,
        speakers=(Speaker(audio=Path("inputs/audio"), box=Box(0, 1, 20, 30.5)),),
        negative_prompt="blur",
        max_frames=10,
        size="480",
        steps=9,
        text_guidance=3.5,
        audio_guidance=2.5,
        shift=5.0,
        window_frames=17,
        motion_frames=5,
        audio_layout=AudioLayout.IN_TURN,
        audio_start=0.5,
        audio_end=2.0,
        scheduler="unipc",
        apg=APG(momentum=-0.5),
        step_cache=EasyCache(threshold=0.3),
        colour_strength=0.5,
        compat=request.compat,
    )
    assert request.compat == "official"


def test_options_of_the_nodes_are_extra_params(served: Service) -> None:
    asked = {"audio_scale": 2, "resize": {"method": "pad"}, "fps": 12.5, "scheduler": "unipc"}
    job = served.desk.get(served.order(extra_params=json.dumps(asked))["id"])
    assert job.order.options == NodeOptions(audio_scale=2.0, resize=Resize(method="pad"), fps=12.5)
    assert job.order.request.scheduler == "unipc"
    again = served.client.post(f"/v1/videos/{job.id}/remix", json={"extra_params": {"fps": 25}}).json()
    assert served.desk.get(again["id"]).order.options == NodeOptions(
        audio_scale=2.0, resize=Resize(method="pad")
    )
    for wrong, code, param in (
        ({"resize": {"methode": "pad"}}, "unknown_field", "extra_params.resize.methode"),
        ({"colour_method": "pink"}, "invalid_field", "extra_params.colour_method"),
        ({"fps": 1000}, "options_range", "extra_params"),
        ({"audio_scale": 2, "apg": {"momentum": 0}}, "options_exclude", "extra_params"),
    ):
        answer = served.client.post("/v1/videos", files=FORM, data={"extra_params": json.dumps(wrong)})
        status, found, named = error(answer)
        assert (status, found) == (400, code) and named == param, wrong
    assert len(served.desk.list()) == 2


def test_two_speakers_with_places(served: Service) -> None:
    files = {**FORM, "audio_2": ("b.wav", AUDIO), "mask_2": ("m.png", PICTURE)}
    told = served.order(files, bbox="[1, 2, 3, 4]")
    assert served.desk.get(told["id"]).order.request.speakers == (
        Speaker(audio=Path("inputs/audio"), box=Box(1, 2, 3, 4)),
        Speaker(audio=Path("inputs/audio2"), mask=Path("inputs/mask2")),
    )


def test_a_clip_is_one_window_of_the_model(served: Service) -> None:
    assert ordered(served, mode="clip").max_frames == 49  # of the embedded model
    assert ordered(served, mode="clip", window_frames="17").max_frames == 17
    assert ordered(served, mode="clip", window_frames="17", seconds="0.2").max_frames == 5
    assert ordered(served, mode="streaming").max_frames is None


def test_presets_fill_in_what_is_open(served: Service) -> None:
    assert ordered(served, preset="draft").steps == 2
    assert ordered(served, preset="draft", num_inference_steps="7").steps == 7
    job = served.desk.get(served.order(preset="low-memory")["id"])
    assert job.order.settings.vram == 8.0


def test_models_are_the_profiles_of_the_store(served: Service) -> None:
    assert [model["id"] for model in served.client.get("/v1/models").json()["data"]] == ["default"]
    served.desk.store.set_profile("fast", Settings(threads=3))
    assert {model["id"] for model in served.client.get("/v1/models").json()["data"]} == {"default", "fast"}
    assert served.client.get("/v1/models/fast").json()["id"] == "fast"
    assert error(served.client.get("/v1/models/none"))[:2] == (404, "model_not_found")
    told = served.order(model="fast")
    assert (told["model"], served.desk.get(told["id"]).order.settings.threads) == ("fast", 3)


def test_loras_come_from_the_servers_folders_only(served: Service, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/a.safetensors").touch()
    (tmp_path / "secret.safetensors").touch()
    (folder / "link.safetensors").symlink_to(tmp_path / "secret.safetensors")
    served.desk.store.set_profile("default", Settings(models_dirs=(folder,)))
    for name in (
        "../secret.safetensors",
        str(tmp_path / "secret.safetensors"),
        "link.safetensors",
        "sub",
        "no",
        "a\0",
    ):
        assert refused(served, lora=json.dumps([{"name": name}])) == (400, "lora_not_found", "lora"), name
    told = served.order(lora='{"name": "sub/a.safetensors", "strength": 0.5}')
    expected = (LoRA(path=folder / "sub/a.safetensors", strength=0.5),)
    assert served.desk.get(told["id"]).order.settings.loras == expected
    assert served.order(lora="sub/a.safetensors")["status"] == "queued"


WRONG: list[tuple[dict[str, str], tuple[int, str, str]]] = [
    ({"promt": "x"}, (400, "unknown_field", "promt")),
    ({"user": "x"}, (400, "unknown_field", "user")),
    ({"seed": "-1"}, (400, "invalid_field", "seed")),
    ({"seed": str(2**64)}, (400, "invalid_field", "seed")),
    ({"seed": "many"}, (400, "invalid_field", "seed")),
    ({"seconds": "0"}, (400, "invalid_field", "seconds")),
    ({"seconds": "1e9"}, (400, "invalid_field", "seconds")),
    ({"seconds": "nan"}, (400, "invalid_field", "seconds")),
    ({"num_inference_steps": "1000000"}, (400, "invalid_field", "num_inference_steps")),
    ({"guidance_scale": "inf"}, (400, "invalid_field", "guidance_scale")),
    ({"mode": "film"}, (400, "invalid_field", "mode")),
    ({"preset": "best"}, (400, "invalid_field", "preset")),
    ({"bbox": "1,2,3"}, (400, "invalid_field", "bbox.3")),
    ({"bbox_2": "1,2,3,4"}, (400, "invalid_field", "bbox_2")),
    ({"prompt": "x" * 32_001}, (400, "invalid_field", "prompt")),
    ({"model": "sora-2"}, (400, "model_not_found", "model")),
    ({"audio_reference": "x"}, (400, "invalid_field", "audio_reference")),
    ({"audio_2": "file:///etc/passwd"}, (400, "invalid_field", "audio_2")),
    ({"audio_2": "https://example.org/a.wav"}, (400, "url_not_allowed", "audio_2")),
    (
        {"audio_reference_2": '{"image_url": "data:;base64,AA=="}'},
        (400, "invalid_field", "audio_reference_2"),
    ),
    ({"audio_2": "data:audio/wav;base64,A*A="}, (400, "invalid_field", "audio_2")),
    ({"audio_2": "data:audio/wav,plain"}, (400, "invalid_field", "audio_2")),
    ({"extra_params": "[]"}, (400, "invalid_field", "extra_params")),
    ({"extra_params": '{"image": "/etc/passwd"}'}, (400, "unknown_field", "extra_params.image")),
    ({"extra_params": '{"apg": {"speed": 1}}'}, (400, "unknown_field", "extra_params.apg.speed")),
    ({"extra_params": '{"audio_start": "soon"}'}, (400, "invalid_field", "extra_params.audio_start")),
]


def test_wrong_fields_are_named(served: Service) -> None:
    for fields, expected in WRONG:
        assert refused(served, **fields) == expected, fields


@pytest.mark.parametrize(("theirs", "ours"), ELSEWHERE.items())
def test_the_names_of_other_programs_are_answered_with_ours(theirs: str, ours: str) -> None:
    with pytest.raises(Refusal, match=rf"Unknown field '{theirs}'. Did you mean {ours}\?"):
        read_fields({theirs: "4"})
    assert ours in (*VideoFields.model_fields, *MEDIA)


def test_missing_and_misplaced_files_are_named(served: Service) -> None:
    picture, audio = FORM["input_reference"], FORM["audio"]
    assert refused(served, {"audio": audio}) == (400, "missing_field", "input_reference")
    assert refused(served, {"input_reference": picture}) == (400, "missing_field", "audio")
    assert refused(served, {**FORM, "seed": audio}) == (400, "invalid_field", "seed")
    assert refused(served, {**FORM, "mask_2": picture}) == (400, "invalid_field", "mask_2")
    assert refused(served, [*FORM.items(), ("audio", audio)]) == (400, "repeated_field", "audio")
    assert refused(served, {**FORM, "audio": ("a.wav", BAD)}) == (415, "audio_unsupported", "audio")
    both = {**FORM, "audio_reference": (None, data_url(AUDIO))}
    assert refused(served, both) == (400, "invalid_field", "audio_reference")


def test_other_bodies_are_refused(served: Service) -> None:
    post = served.client.post
    assert error(post("/v1/videos", content=b"x", headers={"content-type": "text/plain"}))[:2] == (
        415,
        "unsupported_body",
    )
    assert error(post("/v1/videos"))[:2] == (415, "unsupported_body")
    assert error(post("/v1/videos", content=b"{", headers={"content-type": "application/json"}))[:2] == (
        400,
        "bad_json",
    )
    torn = {"content-type": "multipart/form-data; boundary=b"}
    assert error(post("/v1/videos", content=b"--b\r\nno header", headers=torn))[0] == 400
    nameless = {"content-type": "multipart/form-data"}
    assert error(post("/v1/videos", content=b"--b--", headers=nameless))[:2] == (400, "bad_form")
    many = {f"field{n}": "x" for n in range(100)}
    assert error(post("/v1/videos", files=FORM, data=many))[:2] == (400, "bad_form")


def test_text_comes_back_as_it_went(served: Service) -> None:
    for prompt in (
        "<script>alert(1)</script>",
        "{{7*7}} %s",
        "说话 🗣️ e\u0301",
        "\u202eright to left",
        "a\nb\tc",
    ):
        told = served.order(prompt=prompt, title=prompt[:50])
        assert (served.get(told["id"])["prompt"], told["title"]) == (prompt, prompt[:50])


def test_a_key_makes_one_job_of_many_orders(served: Service) -> None:
    def order(key: str | None, seed: str = "1") -> Any:
        headers = {} if key is None else {"idempotency-key": key}
        return served.client.post("/v1/videos", files=FORM, data={"seed": seed}, headers=headers)

    first = order("k").json()["id"]
    assert order("k").json()["id"] == first
    assert error(order("k", seed="2"))[:2] == (409, "key_reused")
    assert order(None).json()["id"] != order(None).json()["id"]
    assert error(order("x" * 256))[0] == 400
    assert len(list(served.desk.folder.jobs.iterdir())) == 3


def test_limits_have_their_status(tmp_path: Path) -> None:
    limits = Limits(free_bytes=0, queued=1, upload_bytes=len(PICTURE) + len(AUDIO))
    with service(tmp_path / "data", limits=limits) as served:
        larger = {**FORM, "mask": ("m.png", PICTURE)}
        assert refused(served, larger)[:2] == (413, "upload_too_large")
        served.order()
        answer = served.client.post("/v1/videos", files=FORM)
        assert error(answer)[:2] == (429, "queue_full")
        assert int(answer.headers["retry-after"]) > 0
    with service(tmp_path / "short", limits=dataclasses.replace(limits, seconds=0.1)) as served:
        assert refused(served)[:2] == (400, "video_too_long")


def test_a_remix_has_the_same_files_and_another_seed(served: Service) -> None:
    source = served.made(prompt="a", seed="3", num_inference_steps="9")
    answer = served.client.post(f"/v1/videos/{source['id']}/remix", json={"prompt": "b", "seed": 4})
    told = answer.json()
    assert (answer.status_code, told["remixed_from_video_id"], told["prompt"]) == (200, source["id"], "b")
    before, after = (served.desk.get(one["id"]).order for one in (source, told))
    assert after.request == dataclasses.replace(before.request, prompt="b", seed=4)
    assert after.files == before.files
    assert served.client.delete(f"/v1/videos/{source['id']}").json()["deleted"]
    assert (served.desk.folder.of(told["id"]) / "inputs/image").read_bytes() == PICTURE
    path = f"/v1/videos/{told['id']}/remix"
    assert error(served.client.post(path, json={"audio": data_url(AUDIO)}))[2] == "audio"
    assert error(served.client.post(path, json={"speed": 2}))[2] == "speed"
    assert error(served.client.post(f"/v1/videos/{source['id']}/remix", json={}))[0] == 404
