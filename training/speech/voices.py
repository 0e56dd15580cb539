"""Every voice, and the one list of voices that training never hears."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ESPEAK_ACCENTS = _words(
    "en-us en-us en en-gb-scotland en-gb-x-rp en-us-nyc en-029 en-gb-x-gbclan en-gb-x-gbcwmd"
)
ESPEAK_SPEAKERS = _words("""Alex Alicia Andrea Andy Annie Denis Diogo Gene Gene2 Henrique Hugo Jacky Lee
Marco Mario Michael Mike Mr Nguyen Reed RicishayMax RicishayMax2 RicishayMax3 Storm Tweaky adam anika
announcer antonio aunty belinda benjamin boris caleb croak david ed edward edward2 f1 f2 f3 f4 f5 grandma
grandpa gustave ian iven iven2 iven3 iven4 john kaukovalta klatt klatt2 klatt3 klatt4 klatt5 klatt6 linda m1
m2 m3 m4 m5 m6 m7 m8 marcelo max michel miguel mike2 norbert pablo paul pedro quincy rob robert sandro
shelby steph steph2 steph3 travis victor zac""")
FLITE_VOICES = ("slt", "rms", "awb", "kal16")
KOKORO_VOICES = ("jf_alpha", "jf_gongitsune", "jf_nezumi", "jf_tebukuro", "jm_kumo")
PIPER_VOICES = ("joe",)

HELD_OUT = frozenset(
    (
        "espeak/linda",
        "espeak/Michael",
        "espeak/f3",
        "espeak/m5",
        "espeak/klatt2",
        "flite/awb",
        "kokoro/jf_nezumi",
    )
)


def speakers(engine: str, names: tuple[str, ...], held_out: bool) -> list[str]:
    """Names of one engine's voices that belong to evaluation (`held_out`) or to training."""
    return [name for name in names if (f"{engine}/{name}" in HELD_OUT) == held_out]
