"""Attributes, kinds of entity and the sentences that state or ask a fact, in Chinese and English.

A statement and its question share their core word for word (`{E}的{A}是`, `{E}'s {A}`), so that a model of a
few million weights can find the one by the other; the words around the core vary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tests.lab.names import listed

if TYPE_CHECKING:
    from tests.lab.names import Names

Language = Literal["zh", "en"]


@dataclass(frozen=True)
class Attribute:
    """One property: its noun in both languages, and what its values look like."""

    zh: str
    en: str
    value: str


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((zh, en) for zh, en in (pair.split() for pair in listed(text)))


def _of(kind: str, text: str) -> tuple[Attribute, ...]:
    return tuple(Attribute(zh, en, kind) for zh, en in _pairs(text))


ATTRIBUTES: tuple[Attribute, ...] = (
    *_of("number 米 metres", "高度 height|深度 depth"),
    *_of("number 公里 kilometres", "长度 length"),
    *_of("number 吨 tonnes", "重量 weight"),
    *_of("number 亩 hectares", "面积 area"),
    *_of("number 人 people", "人口 population"),
    *_of("number 元 coins", "票价 price"),
    *_of("number 节 knots", "速度 speed"),
    *_of("year", "年份 year"),
    *_of("date", "节日 festival|开放日 opening"),
    *_of("code", "编号 code"),
    *_of("phone", "电话 phone"),
    *_of(
        "person",
        "设计者 designer|发现者 discoverer|修建者 builder|画师 painter|馆长 director|老师 teacher"
        "|管理员 keeper|船长 captain|作者 author|主人 owner|创始人 founder|厨师 cook|医生 doctor",
    ),
    *_of(
        "place",
        "所在地 location|起点 start|终点 end|总部 headquarters|产地 origin"
        "|出口 exit|入口 entrance|邻居 neighbour",
    ),
    *_of("stuff", "燃料 fuel|原料 ingredient|涂料 paint"),
    *_of("food", "特产 speciality|招牌菜 dish|早餐 breakfast"),
    *_of("nickname", "别名 nickname"),
    *_of("animal", "吉祥物 mascot|宠物 pet"),
    *_of("work", "代表作 masterpiece|歌曲 song"),
)

# Chinese suffix, English noun: together with a core they name an entity.
KINDS = _pairs(
    "山 Mountain|河 River|湖 Lake|桥 Bridge|塔 Tower|镇 Town|博物馆 Museum|学校 School|公司 Company"
    "|公园 Park|号 Ship|图书馆 Library|农场 Farm|花 Flower|星 Star|岛 Island|车站 Station|剧院 Theatre"
    "|医院 Hospital|港 Harbour"
)
PLACES = _pairs("省 Province|县 County|村 Village|谷 Valley|湾 Bay|城 City")
STUFFS = _pairs("石 Stone|铁 Iron|布 Cloth|油 Oil|泥 Clay")
FOODS = _pairs("汤 Soup|饼 Cake|糕 Pie|茶 Tea|粥 Bread")
ANIMALS = _pairs("熊 Bear|狐 Fox|兔 Hare|鹿 Deer")
NOUNS = {"place": PLACES, "stuff": STUFFS, "food": FOODS, "animal": ANIMALS}
EN_MONTHS = listed("January|February|March|April|May|June|July|August|September|October|November|December")
NUMBERS = (20, 999)

ZH_CORE = "{E}的{A}是{V}"
ZH_SAYS = (
    "{C}。",
    "{C}。",
    "据记载，{C}。",
    "人们都知道，{C}。",
    "根据最新统计，{C}。",
    "书上写着，{C}。",
    "大家常说，{C}。",
)
ZH_GOES_ON = ("另外，{C}。", "还有，{C}。")
ZH_ASKS = (
    "{E}的{A}是{W}？",
    "{E}的{A}是{W}？",
    "请问，{E}的{A}是{W}？",
    "我想知道，{E}的{A}是{W}？",
    "请告诉我，{E}的{A}是{W}？",
    "你知道吗，{E}的{A}是{W}？",
)
ZH_FILLERS = (
    "每年有许多游客前来。",
    "孩子们很喜欢这里。",
    "这个故事流传了很久。",
    "当地人为此感到自豪。",
    "天气好的时候更热闹。",
    "报纸上也介绍过。",
    "这份资料写得很短。",
    "许多学生写过相关的文章。",
)
EN_CORE = "{E}'s {A} is {V}"
EN_SAYS = (
    "{C}.",
    "{C}.",
    "According to the records, {C}.",
    "Everyone knows that {C}.",
    "A recent survey says that {C}.",
    "Books say that {C}.",
    "As people say, {C}.",
)
EN_GOES_ON = ("Also, {C}.", "Besides, {C}.")
EN_ASKS = (
    "What is {E}'s {A}?",
    "What is {E}'s {A}?",
    "Please tell me, what is {E}'s {A}?",
    "I would like to know, what is {E}'s {A}?",
    "Do you know, what is {E}'s {A}?",
    "And what is {E}'s {A}?",
)
EN_FILLERS = (
    "Many visitors come every year.",
    "Children like it very much.",
    "The story has been told for a long time.",
    "The people there are proud of it.",
    "It is busier when the weather is good.",
    "A newspaper has written about it.",
    "This text is rather short.",
    "Many pupils have written about it.",
)

_ZH_WORD = {
    "person": "谁",
    "place": "哪里",
    "number": "多少",
    "code": "多少",
    "phone": "多少",
    "date": "哪天",
    "year": "哪年",
}


def value_of(attribute: Attribute, names: Names, language: Language) -> str:
    """Make a new value of the attribute's kind."""
    kind, *units = attribute.value.split()
    if kind == "number":
        number = names.digits(*NUMBERS)
        return number + units[0] if language == "zh" else f"{number} {units[1]}"
    return _zh_value(kind, names) if language == "zh" else _en_value(kind, names)


def _zh_value(kind: str, names: Names) -> str:
    match kind:
        case "year":
            return f"{names.digits(1000, 2999)}年"
        case "date":
            day = names.digits(1, 28)
            return f"{names.rng.randint(1, 12)}月{day}日"
        case "person":
            return names.zh_person()
        case "nickname" | "work":
            core = names.zh_core()
            return core if kind == "nickname" else f"《{core}》"
        case _ if kind in NOUNS:
            noun = names.rng.choice(NOUNS[kind])[0]
            return names.zh_core() + noun
    return _number_like(kind, names)


def _en_value(kind: str, names: Names) -> str:
    match kind:
        case "year":
            return names.digits(1000, 2999)
        case "date":
            day = names.digits(1, 28)
            return f"{names.rng.choice(EN_MONTHS)} {day}"
        case "person":
            return names.en_person()
        case "nickname" | "work":
            core = names.en_core()
            return core if kind == "nickname" else f"“{core}”"
        case _ if kind in NOUNS:
            noun = names.rng.choice(NOUNS[kind])[1]
            return f"{names.en_core()} {noun}"
    return _number_like(kind, names)


def _number_like(kind: str, names: Names) -> str:
    if kind == "code":
        return names.code()
    return f"{names.digits(100, 999)}-{names.digits(100, 999)}"


def entity_of(names: Names, language: Language) -> str:
    """Make a new entity: a core and the noun of its kind."""
    zh_noun, en_noun = names.rng.choice(KINDS)
    return names.zh_core() + zh_noun if language == "zh" else f"{names.en_core()} {en_noun}"


def statement(attribute: Attribute, entity: str, value: str, names: Names, language: Language) -> str:
    """Write a sentence that states the fact."""
    form = names.rng.choice(ZH_SAYS if language == "zh" else EN_SAYS)
    return _fill(form, attribute, entity, value, language)


def continued(attribute: Attribute, entity: str, value: str, names: Names, language: Language) -> str:
    """Write a sentence that states a further fact."""
    form = names.rng.choice(ZH_GOES_ON if language == "zh" else EN_GOES_ON)
    return _fill(form, attribute, entity, value, language)


def question(attribute: Attribute, entity: str, names: Names, language: Language) -> str:
    """Write a question about the fact."""
    form = names.rng.choice(ZH_ASKS if language == "zh" else EN_ASKS)
    return _fill(form, attribute, entity, "", language)


def _fill(form: str, attribute: Attribute, entity: str, value: str, language: Language) -> str:
    noun = attribute.zh if language == "zh" else attribute.en
    asked = _ZH_WORD.get(attribute.value.split()[0], "什么")
    text = form.replace("{C}", ZH_CORE if language == "zh" else EN_CORE).replace("{A}", noun)
    return text.replace("{W}", asked).replace("{E}", entity).replace("{V}", value)
