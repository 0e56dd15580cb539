"""English captions of drawn portraits, from the attributes that are really visible."""

from __future__ import annotations

from training.portraits.identity import BEARDS, COLOURS, COVERS_EARS, HAIR, PATTERNS, STYLES, Identity

_HAIR_WORDS = {
    "buzz": "very short {} hair",
    "swept": "short {} hair",
    "quiff": "swept-up {} hair",
    "fringe": "short {} hair with a fringe",
    "bob": "a {} bob",
    "long": "long straight {} hair",
    "wavy": "long wavy {} hair",
    "curly": "curly {} hair",
    "tied": "{} hair in a ponytail",
    "crop": "cropped {} hair",
}
_BEARD_WORDS = {"stubble": "stubble", "full": "a beard", "goatee": "a goatee"}


def _noun(who: Identity, i: int) -> str:
    """Man or woman only where the drawing says so (beards, hair styles); otherwise neutral words."""
    style, womanly = STYLES[int(who.style[i])], bool(who.womanly[i])
    if not womanly and (int(who.beard[i]) or bool(who.moustache[i]) or style in ("quiff", "bald")):
        return "a man"
    if womanly and style in ("bob", "long", "wavy", "tied", "scarf"):
        return "a woman"
    return "a person"


def _traits(who: Identity, i: int) -> list[str]:
    style, beard = STYLES[int(who.style[i])], BEARDS[int(who.beard[i])]
    if style in ("bald", "scarf"):
        traits = ["a bald head" if style == "bald" else "a headscarf"]
    else:
        traits = [_HAIR_WORDS[style].format(HAIR[int(who.hair_name[i])][0])]
    if beard in _BEARD_WORDS:
        traits.append(_BEARD_WORDS[beard])
    if bool(who.moustache[i]) and beard != "goatee":
        traits.append("a moustache")
    if bool(who.glasses[i]):
        traits.append("round glasses" if bool(who.round_glasses[i]) else "glasses")
    if bool(who.earrings[i]) and style not in COVERS_EARS:
        traits.append("earrings")
    if bool(who.freckles[i]):
        traits.append("freckles")
    pattern = PATTERNS[int(who.pattern[i])]
    cloth = COLOURS[int(who.cloth_name[i])][0]
    traits.append(f"a {cloth} top" if pattern == "plain" else f"a {cloth} {pattern} top")
    return traits


def describe(who: Identity) -> list[str]:
    """One caption per portrait: "a woman with wavy red hair, glasses and a green striped top, talking"."""
    captions = []
    for i in range(len(who)):
        traits = _traits(who, i)
        captions.append(f"{_noun(who, i)} with {', '.join(traits[:-1])} and {traits[-1]}, talking")
    return [caption.replace(" a orange", " an orange") for caption in captions]


__all__ = ["describe"]
