"""The lecture's Chinese-English translation data: the order of the characters decides the meaning.

    我要离开北京去天津。     I am leaving Beijing for Tianjin .
    我要离开天津去北京。     I am leaving Tianjin for Beijing .

    上海自来水               Shanghai tap water
    水来自海上               water comes from the sea
    水来自上海               water comes from Shanghai

The sentences of a group have the same bag of characters. A model that only counts characters gives
all of them the same translation, which is right for one of them at most. A model that reads them in
order can translate all of them.

The test set has new combinations of known words. A few pairs of cities and a few pairs of people
never occur together in a training sentence, in either order, and the three sentences about water
never occur at all. But each of these words occurs in training, at each of its positions, with other
partners. Beijing and Tianjin are always one of the test pairs.

Chinese is read character by character, English is written word by word.   Read first: text.py.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import permutations, product

import numpy as np

from tinycv.data.text import Pairs, Vocabulary
from tinycv.engine.arguments import shown, size

CITIES = {
    "北京": "Beijing",
    "天津": "Tianjin",
    "上海": "Shanghai",
    "南京": "Nanjing",
    "广州": "Guangzhou",
    "西安": "Xi'an",
    "成都": "Chengdu",
    "杭州": "Hangzhou",
    "重庆": "Chongqing",
    "武汉": "Wuhan",
    "苏州": "Suzhou",
    "深圳": "Shenzhen",
}
PEOPLE = {
    "小明": "Xiaoming",
    "小红": "Xiaohong",
    "小丽": "Xiaoli",
    "老师": "the teacher",
    "医生": "the doctor",
    "学生": "the student",
    "司机": "the driver",
    "孩子": "the child",
    "狗": "the dog",
    "猫": "the cat",
}
PLACES = {"海上": "the sea", "山上": "the mountain", "河里": "the river", "井里": "the well"}

TRAVELLERS = {
    "我": "I am",
    "你": "you are",
    "他": "he is",
    "她": "she is",
    "我们": "we are",
    "他们": "they are",
}
VEHICLES = {"火车": "train", "飞机": "plane", "汽车": "bus"}
PRAISE = {"很快": "is fast", "很贵": "is expensive"}
VERBS = {"爱": "loves", "等": "waits for", "帮": "helps", "找": "looks for", "怕": "fears"}
QUALITIES = {"高": "taller", "快": "faster", "老": "older", "忙": "busier", "瘦": "thinner"}
THINGS = {
    "水": "water",
    "鱼": "fish",
    "盐": "salt",
    "雨": "rain",
    "风": "the wind",
    "鸟": "the bird",
    "船": "the ship",
}
TASTES = {"很好喝": "tastes good", "很贵": "is expensive", "很干净": "is clean"}

# (Chinese, English, words for {a} and {b}, words for {x}, words for {y}). {a} and {b} are the two
# words whose order decides the meaning; {x} and {y} complete the sentence.
SENTENCES = [
    ("{x}要离开{a}去{b}。", "{x} leaving {a} for {b} .", CITIES, TRAVELLERS, {"": ""}),
    ("从{a}到{b}的{x}{y}。", "the {x} from {a} to {b} {y} .", CITIES, VEHICLES, PRAISE),
    ("{a}{x}{b}。", "{a} {x} {b} .", PEOPLE, VERBS, {"": ""}),
    ("{a}比{b}{x}。", "{a} is {x} than {b} .", PEOPLE, QUALITIES, {"": ""}),
]
# always in the test set: this pair of cities, and three sentences made of 上, 海, 自, 来 and 水
LECTURE = {"北京", "天津"}
WATER = ["上海自来水", "水来自海上", "水来自上海"]


def lecture(seed: int = 0, held_out: int = 5) -> tuple[Pairs, Pairs]:
    """(train, test). The test set has all sentences with one of ``held_out`` pairs of cities
    (Beijing and Tianjin are one of them) or one of ``held_out`` pairs of people, and the three
    about water. No word is in two such pairs, so in training each word still occurs with all
    others of its kind but one."""
    seed, held_out = size(seed, "lecture: seed"), size(held_out, "lecture: held_out")
    if not 1 <= held_out <= len(PEOPLE) // 2:
        raise ValueError(
            f"lecture: held_out={held_out} must be 1 to {len(PEOPLE) // 2}: {len(PEOPLE)} people "
            "make no more pairs in which nobody occurs twice"
        )
    rng = np.random.default_rng(seed)
    others = [city for city in CITIES if city not in LECTURE]
    test_pairs = [
        LECTURE,
        *disjoint_pairs(others, held_out - 1, rng),
        *disjoint_pairs(list(PEOPLE), held_out, rng),
    ]
    texts, tested = [], []
    for chinese, english, pair in sentences():
        texts.append((chinese, english.split()))
        tested.append(chinese in WATER or pair in test_pairs)
    return Pairs.of(texts, *vocabularies()).split(np.array(tested), rng)


def bag_ceiling(pairs: Pairs) -> float:
    """The largest share of ``pairs`` that a bag-of-words model, which only counts the symbols of
    the source, can translate: among sentences with the same bag, such a model is right at most
    about those that have the most frequent translation."""
    if not isinstance(pairs, Pairs):
        raise TypeError(f"bag_ceiling: pairs is {shown(pairs)}; it must be Pairs (data/text.py)")
    if not len(pairs):
        raise ValueError("bag_ceiling: pairs holds no sentence; there must be at least one")
    answers: dict[tuple, Counter] = defaultdict(Counter)
    for i in range(len(pairs)):
        source, target = pairs.texts(i)
        answers[tuple(sorted(source))][tuple(target)] += 1
    return sum(max(counts.values()) for counts in answers.values()) / len(pairs)


def disjoint_pairs(words: list[str], count: int, rng: np.random.Generator) -> list[set[str]]:
    """``count`` random pairs of words; no word is in two of them."""
    return [set(pair) for pair in rng.permutation(words)[: 2 * count].reshape(count, 2).tolist()]


def sentences() -> Iterator[tuple[str, str, set[str]]]:
    """All sentences: (Chinese, English, the words that stand for {a} and {b})."""
    for chinese, english, words, xs, ys in SENTENCES:
        for (a, b), x, y in product(permutations(words, 2), xs, ys):
            yield (
                chinese.format(a=a, b=b, x=x, y=y),
                english.format(a=words[a], b=words[b], x=xs[x], y=ys[y]),
                {a, b},
            )
    for city in CITIES:
        yield f"{city}自来水", f"{CITIES[city]} tap water", {city}
        for taste in TASTES:
            yield f"{city}自来水{taste}。", f"{CITIES[city]} tap water {TASTES[taste]} .", {city}
    for (who, english_who), (where, english_where) in product(
        (THINGS | PEOPLE).items(), (CITIES | PLACES).items()
    ):
        yield f"{who}来自{where}", f"{english_who} comes from {english_where}", {where}


def vocabularies() -> tuple[Vocabulary, Vocabulary]:
    """The Chinese characters and the English words of all sentences."""
    chinese, english, _ = zip(*sentences(), strict=True)
    return Vocabulary(sorted(set("".join(chinese)))), Vocabulary(
        sorted({word for text in english for word in text.split()})
    )
