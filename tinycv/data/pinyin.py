"""Pinyin: the Chinese characters of dates.py and lecture.py in Latin letters.

Pictures use it where there is no font that can draw Chinese."""

from tinycv.engine.arguments import shown

TABLE = """
一 yī, 七 qī, 三 sān, 上 shàng, 丽 lì, 九 jiǔ, 二 èr, 五 wǔ, 井 jǐng, 京 jīng, 从 cóng, 他 tā,
们 men, 你 nǐ, 八 bā, 六 liù, 净 jìng, 到 dào, 北 běi, 医 yī, 十 shí, 南 nán, 去 qù, 周 zhōu,
喝 hē, 四 sì, 天 tiān, 她 tā, 好 hǎo, 子 zǐ, 孩 hái, 安 ān, 小 xiǎo, 山 shān, 州 zhōu, 师 shī,
帮 bāng, 干 gān, 年 nián, 广 guǎng, 开 kāi, 很 hěn, 快 kuài, 怕 pà, 成 chéng, 我 wǒ, 找 zhǎo,
日 rì, 明 míng, 星 xīng, 月 yuè, 期 qī, 机 jī, 来 lái, 杭 háng, 比 bǐ, 水 shuǐ, 汽 qì, 河 hé,
津 jīn, 海 hǎi, 火 huǒ, 爱 ài, 狗 gǒu, 猫 māo, 生 shēng, 的 de, 盐 yán, 离 lí, 等 děng, 红 hóng,
老 lǎo, 自 zì, 西 xī, 要 yào, 贵 guì, 车 chē, 都 dū, 里 lǐ, 飞 fēi, 高 gāo, 鱼 yú, 雨 yǔ,
风 fēng, 鸟 niǎo, 船 chuán, 重 chóng, 庆 qìng, 武 wǔ, 汉 hàn, 苏 sū, 深 shēn, 圳 zhèn, 学 xué,
司 sī, 忙 máng, 瘦 shòu
"""
PINYIN = {"。": ".", "，": ",", "（": "(", "）": ")"}
for entry in TABLE.split(","):
    character, pinyin = entry.split()
    PINYIN[character] = pinyin


def is_chinese(text: str) -> bool:
    """Does the text hold a Chinese character or a full-width punctuation mark, which many fonts
    lack?"""
    if not isinstance(text, str):
        raise TypeError(f"is_chinese: text is {shown(text)}; it must be a string")
    return any(
        "\u3000" <= character <= "\u9fff" or "\uff00" <= character <= "\uffef" for character in text
    )


def romanised(text: str) -> str:
    """The text with each Chinese character replaced by its pinyin; ValueError names characters that
    the table lacks."""
    if not isinstance(text, str):
        raise TypeError(f"romanised: text is {shown(text)}; it must be a string")
    unknown = [character for character in text if is_chinese(character) and character not in PINYIN]
    if unknown:
        raise ValueError(
            f"romanised: {shown(unknown)} of {shown(text)} have no entry in PINYIN; add them to "
            "the table"
        )
    return "".join(PINYIN.get(character, character) for character in text)
