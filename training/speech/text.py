"""Sentences to be spoken, made without any network: templates over word lists, and Python's own documentation.

A sentence belongs for ever to training or to evaluation, decided by its checksum alone.
"""

import random
import re
import zlib

HELD_OUT_SHARE = 12  # one sentence in so many is kept for evaluation

_NOUNS = """time people way day man thing woman life child world school family student group country problem hand place
week company system question work number night point home water room mother area money story month book eye job word
business side kind head house service friend father power hour game line end member city name team minute idea body
information face level office door health person art history party morning reason research moment air teacher force
foot policy music market sense voice mouth bubble baby pepper apple butter summer winter fish wish vision measure
pleasure judge orange village brother thunder weather zebra zoo shoe show shower flower wolf window yellow youth year
map lamp paper boat bridge church beach garage tooth feather leather clothes lobby bamboo mammal pumpkin mushroom
elbow shoulder finger kitchen machine chair picture future nature treasure usual choice noise oil toy cloud crowd
mountain pound owl road coat phone bowl soul spoon moon fruit juice suit cook foot wood bull push""".split()
_VERBS = """see make know take get give find think tell ask show try leave call keep let begin seem help play move live
believe bring happen write sit stand lose pay meet learn lead watch follow stop speak read spend grow open walk win
offer remember love buy wait serve send build stay fall cut reach push pull pump blame jump form favour shave choose
join enjoy measure wash catch throw breathe swim climb bake mix whisper shout laugh wave bow hum sing""".split()
_ADJECTIVES = """good new first last long great little own other old right big high different small large next early
young important few public bad same able blue warm smooth rough shiny fluffy vivid proper simple happy funny famous
purple bumpy foamy thick thin wooden loud quiet cheap rich huge tiny brown round square white yellow""".split()
_NAMES = """Peter Mary Thomas Sophie Bob Emma Joe Victor Fiona Shelby George Ruth Wendy Zoe Hugh Maya Paul Abby Owen
Ivy""".split()
_ENGLISH = """The {a} {n} will {v} my {n}.|Do you {v} the {n} of the {a} {n}?|Please {v} me, my {a} friend!
I would {v} a {a} {n}, but we {v} {n} and {n}.|We {v} every {n} before the {n}.|Why {v} your {n}? Oh, because it is {a}.
They all {v} and {v}, so the {n} was {a}.|{N}, {n}, and {a} {n}.|{p} and {p} {v} {i} {n}s.|Yes.|No, thank you.
In {y}, {p} had {i} {a} {n}s and {i} {n}s.|Call {d} {d} {d}, {d} {d} {d} {d}.|It is {h} o'clock, {p}; where is the {n}?
Hello, my name is {p}, and I {v} the {n}.|Wow, what a {a} {n}!|Hmm. Maybe we {v} it.|{p}!|Would you {v} it, {p}?
My {n} has {i} {n}s, {p} has {i}, and nobody has a {a} {n}.|That is {i} point {d} percent of the {n}.|Oh, {p}.
Both {p} and I {v} that {a} {n}, don't we?|If you {v} the {n}, then the {n} may {v}.|Good morning, {p}!
Above the {n}, beneath the {a} {n}, there was a {n} for {p}.|How {a} the {n} is!|I think so, too.|Never {v} a {n} twice.
There are {i} {n}s in the {a} {n}, and {i} more by the {n}.|You {v}, we {v}, and the {n} {v}s.|Welcome back, everyone."""
_OTHER = {
    "cmn": (
        "我 你 他 她 我们 他们 老师 朋友 妈妈 爸爸 小猫 孩子 医生 学生 大家 公司 北京 上海",
        "喜欢 看见 知道 需要 准备 打算 帮助 认识 告诉 觉得 希望 学习 买 卖 吃 喝 写 读 问 玩 送 拍",
        "苹果 水 书 电影 音乐 公园 天气 手机 电脑 飞机 火车 米饭 面包 葡萄 花 房子 问题 故事 颜色 画面 声音 嘴巴 明天 晚上",
        "{0}{1}{2}。|{0}{1}{2}吗？|今天{0}{1}{2}，明天{0}{1}{2}。|为什么{0}不{1}{2}？|请{1}{2}。|{2}和{2}都很好！|{0}有{i}个{2}。"
        "|你好，{0}。|非常高兴{1}{2}，谢谢{0}。|是的。|不，{0}没有{1}{2}，{0}只{1}{2}。|{i}加{i}是多少？",
    ),
    "de": (
        "ich du er sie wir ihr Peter Maria mein Bruder die Mutter der Arzt unser Freund",
        "möchte sehe kaufe höre finde brauche liebe öffne baue suche schreibe verstehe",
        "das Buch den Apfel die Blume das Wasser den Baum die Brücke das Fenster den Schuh die Möwe das Öl die Bäume",
        "{0} {1} {2}.|Warum {1} {0} {2}?|Heute {1} {0} {2} und {2}, aber nicht {2}.|Guten Morgen!|Bitte, {2}!|{i} oder {i}?",
    ),
    "es": (
        "yo tú él ella nosotros Pablo María mi hermano la madre el médico nuestro amigo",
        "quiero veo compro busco pongo abro bebo llamo escucho prefiero muevo vivo",
        "el libro la manzana el agua el puente la ventana el zapato una flor mucho pan el pueblo la lluvia un perro",
        "{0} {1} {2}.|¿Por qué {1} {2}?|Hoy {1} {2} y {2}, pero no {2}.|¡Buenos días!|Por favor, {2}.|{i} o {i}.",
    ),
    "fr": (
        "je tu il elle nous Paul Marie mon frère la mère le médecin notre ami",
        "veux vois achète cherche ouvre bois appelle écoute préfère pousse mange peux",
        "le livre la pomme l'eau le pont la fenêtre une fleur du pain le bateau la pluie un chien le beurre un oeuf",
        "{0} {1} {2}.|Pourquoi {0} {1} {2}?|Aujourd'hui, {0} {1} {2} et {2}.|Bonjour!|S'il vous plaît, {2}.|{i} ou {i}.",
    ),
    "it": (
        "io tu lui lei noi Paolo Maria mio fratello la mamma il medico il nostro amico",
        "voglio vedo compro cerco apro bevo chiamo ascolto preferisco muovo mangio posso",
        "il libro la mela l'acqua il ponte la finestra un fiore molto pane la barca la pioggia un cane il burro",
        "{0} {1} {2}.|Perché {1} {2}?|Oggi {1} {2} e {2}, ma non {2}.|Buongiorno!|Per favore, {2}.|{i} o {i}.",
    ),
    "pt-BR": (
        "eu você ele ela nós Paulo Maria meu irmão a mãe o médico nosso amigo",
        "quero vejo compro procuro abro bebo chamo escuto prefiro movo vivo posso",
        "o livro a maçã a água a ponte a janela uma flor muito pão o barco a chuva um cachorro a manteiga",
        "{0} {1} {2}.|Por que {0} {1} {2}?|Hoje {0} {1} {2} e {2}, mas não {2}.|Bom dia!|Por favor, {2}.|{i} ou {i}.",
    ),
}
LANGUAGES = ("en", *_OTHER)


def is_held_out(sentence: str) -> bool:
    """Whether this sentence is spoken in evaluation only."""
    return zlib.crc32(sentence.strip().lower().encode()) % HELD_OUT_SHARE == 0


def sentence(rng: random.Random, language: str = "en", held_out: bool = False) -> str:
    """Draw a sentence of `language` from the training or the evaluation half."""
    while True:
        drawn = _draw(rng, language)
        if is_held_out(drawn) == held_out:
            return drawn


def passage(rng: random.Random, language: str = "en", held_out: bool = False) -> list[str]:
    """Draw one to four sentences, spoken one after the other with pauses between."""
    return [sentence(rng, language, held_out) for _ in range(rng.choice((1, 2, 2, 3, 3, 4)))]


def _draw(rng: random.Random, language: str) -> str:
    if language == "en":
        return rng.choice(documentation()) if rng.random() < 0.25 else _english(rng)
    subjects, verbs, objects, templates = _OTHER[language]
    words = (_phrases(subjects), verbs.split(), _phrases(objects))

    def fill(match: re.Match[str]) -> str:
        return str(rng.randint(2, 999)) if match[1] == "i" else rng.choice(words[int(match[1])])

    return re.sub(r"\{(.)\}", fill, rng.choice(templates.split("|")))


def _phrases(text: str) -> list[str]:
    """Split a word list, keeping an article or possessive with its noun."""
    heads = set("das den die der mein unser el la un una mucho mi nuestro le du mon notre il molto mio o a uma muito"
                " meu nosso".split())  # fmt: skip
    phrases: list[str] = []
    for word in text.split():
        if phrases and phrases[-1].split()[-1] in heads and word not in heads:
            phrases[-1] += " " + word
        else:
            phrases.append(word)
    return phrases


def _english(rng: random.Random) -> str:
    templates = _ENGLISH.replace("\n", "|").split("|")
    choices = {
        "n": lambda: rng.choice(_NOUNS),
        "N": lambda: rng.choice(_NOUNS).capitalize(),
        "v": lambda: rng.choice(_VERBS),
        "a": lambda: rng.choice(_ADJECTIVES),
        "p": lambda: rng.choice(_NAMES),
        "i": lambda: str(rng.randint(2, rng.choice((20, 100, 9999)))),
        "d": lambda: str(rng.randint(0, 9)),
        "h": lambda: str(rng.randint(1, 12)),
        "y": lambda: str(rng.randint(1700, 2040)),
    }
    return re.sub(r"\{(.)\}", lambda match: choices[match[1]](), rng.choice(templates))


_DOCUMENTATION: list[str] = []


def documentation() -> list[str]:
    """Plain sentences of 25 to 140 letters from the language reference that ships with Python."""
    if not _DOCUMENTATION:
        from pydoc_data import topics

        text = re.sub(r"\s+", " ", " ".join(topics.topics[key] for key in sorted(topics.topics)))
        plain = re.compile(r"[A-Z][A-Za-z ,'.!?]{24,139}")
        _DOCUMENTATION.extend(s for s in re.split(r"(?<=[.!?])\s+", text) if plain.fullmatch(s))
    return _DOCUMENTATION
