"""Attributes, kinds of entity and the sentences that state or ask a fact, in Chinese and English."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from recipes.models.lab.names import listed

if TYPE_CHECKING:
    from recipes.models.lab.names import Names

Language = Literal["zh", "en"]


@dataclass(frozen=True)
class Attribute:
    """One property: its noun in both languages, what its values look like, and sentences of its own."""

    zh: str
    en: str
    value: str
    zh_says: tuple[str, ...] = ()
    zh_asks: tuple[str, ...] = ()
    en_says: tuple[str, ...] = ()
    en_asks: tuple[str, ...] = ()


def _number(zh: str, en: str, limits: str, *asks: str) -> Attribute:
    """A number within limits and its units; some have a question of their own in each language."""
    return Attribute(zh, en, f"number {limits}", zh_asks=asks[:1], en_asks=asks[1:])


def _person(zh: str, en: str, zh_verb: str, en_verb: str) -> Attribute:
    return Attribute(
        zh,
        en,
        "person",
        (f"{{V}}{zh_verb}了{{E}}。", f"{{E}}是由{{V}}{zh_verb}的。"),
        (f"谁{zh_verb}了{{E}}？", f"{{E}}是由谁{zh_verb}的？"),
        (f"{{V}} {en_verb} {{E}}.", f"{{E}} was {en_verb} by {{V}}."),
        (f"Who {en_verb} {{E}}?", f"{{E}} was {en_verb} by whom?"),
    )


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((zh, en) for zh, en in (pair.split() for pair in listed(text)))


ATTRIBUTES: tuple[Attribute, ...] = (
    _number("高度", "height", "20 4999 米 metres", "{E}有多高？", "How high is {E}?"),
    _number("长度", "length", "20 4999 公里 kilometres", "{E}有多长？", "How long is {E}?"),
    _number("深度", "depth", "20 4999 米 metres", "{E}有多深？", "How deep is {E}?"),
    _number("宽度", "width", "20 4999 米 metres", "{E}有多宽？", "How wide is {E}?"),
    _number("重量", "weight", "20 4999 吨 tonnes", "{E}有多重？", "How heavy is {E}?"),
    _number("面积", "area", "20 9999 亩 hectares"),
    _number("人口", "population", "100 9999 人 people"),
    _number("票价", "ticket price", "20 999 元 coins"),
    _number("温度", "temperature", "20 999 度 degrees"),
    _number("速度", "speed", "20 999 节 knots", "{E}有多快？", "How fast is {E}?"),
    _number("容量", "capacity", "20 9999 升 litres"),
    _number("层数", "number of floors", "20 299 层 floors"),
    _number("年产量", "yearly output", "100 9999 箱 crates"),
    Attribute(
        "建成年份",
        "year of completion",
        "year",
        ("{E}建成于{V}。",),
        ("{E}是哪一年建成的？",),
        ("{E} was completed in {V}.",),
        ("When was {E} completed?",),
    ),
    Attribute(
        "成立年份",
        "founding year",
        "year",
        ("{E}成立于{V}。",),
        ("{E}是哪一年成立的？",),
        ("{E} was founded in {V}.",),
        ("When was {E} founded?",),
    ),
    Attribute(
        "开放日期",
        "opening date",
        "date",
        ("{E}在{V}开放。",),
        ("{E}什么时候开放？",),
        ("{E} opens on {V}.",),
        ("When does {E} open?",),
    ),
    Attribute(
        "节日",
        "feast day",
        "date",
        ("{E}在{V}过节。",),
        ("{E}什么时候过节？",),
        ("{E} celebrates on {V}.",),
        ("When does {E} celebrate?",),
    ),
    Attribute("编号", "code", "code"),
    Attribute("电话", "phone number", "phone"),
    _person("设计者", "designer", "设计", "designed"),
    _person("发现者", "discoverer", "发现", "discovered"),
    _person("修建者", "builder", "修建", "built"),
    _person("绘制者", "painter", "绘制", "painted"),
    Attribute("馆长", "director", "person"),
    Attribute("老师", "teacher", "person"),
    Attribute("管理员", "keeper", "person"),
    Attribute("船长", "captain", "person"),
    Attribute("作者", "author", "person"),
    Attribute(
        "所在地",
        "location",
        "place",
        ("{E}位于{V}。", "{E}坐落在{V}。"),
        ("{E}在哪里？", "{E}位于哪里？"),
        ("{E} lies in {V}.", "{E} is located in {V}."),
        ("Where is {E}?", "Where does {E} lie?"),
    ),
    Attribute("起点", "starting point", "place"),
    Attribute("终点", "end point", "place"),
    Attribute("总部", "headquarters", "place"),
    Attribute(
        "产地",
        "place of origin",
        "place",
        ("{E}来自{V}。",),
        ("{E}来自哪里？",),
        ("{E} comes from {V}.",),
        ("Where does {E} come from?",),
    ),
    Attribute("主要材料", "main material", "stuff"),
    Attribute("燃料", "fuel", "stuff"),
    Attribute("特产", "speciality", "food"),
    Attribute("招牌菜", "signature dish", "food"),
    Attribute("别名", "nickname", "nickname"),
    Attribute("吉祥物", "mascot", "animal"),
    Attribute("代表作", "best-known work", "work"),
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

ZH_SAYS = (
    "{E}的{A}是{V}。",
    "{E}的{A}是{V}。",
    "{E}的{A}为{V}。",
    "据记载，{E}的{A}是{V}。",
    "人们都知道{E}的{A}是{V}。",
    "说到{E}，它的{A}是{V}。",
    "关于{A}，{E}的记录是{V}。",
    "根据最新统计，{E}的{A}为{V}。",
    "在{A}一栏里，{E}写的是{V}。",
)
# Harder to follow: the value stands before what it is a value of.
ZH_SAYS_VALUE_FIRST = ("{V}是{E}的{A}。",)
ZH_GOES_ON = ("它的{A}是{V}。", "这里的{A}为{V}。", "另外，它的{A}是{V}。")
ZH_ASKS = (
    "{E}的{A}是{W}？",
    "{E}的{A}是{W}？",
    "请问{E}的{A}是{W}？",
    "我想知道{E}的{A}。",
    "你知道{E}的{A}吗？",
    "{E}的{A}？",
    "告诉我{E}的{A}。",
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
EN_SAYS = (
    "The {A} of {E} is {V}.",
    "The {A} of {E} is {V}.",
    "According to the records, the {A} of {E} is {V}.",
    "Everyone knows that the {A} of {E} is {V}.",
    "As for {E}, its {A} is {V}.",
    "Under {A}, {E} lists {V}.",
    "For {E}, the {A} is {V}.",
    "{E} gives its {A} as {V}.",
)
EN_SAYS_VALUE_FIRST = (
    "{V} is the {A} of {E}.",
    "A recent survey gives {V} as the {A} of {E}.",
)
EN_GOES_ON = ("Its {A} is {V}.", "Here the {A} is {V}.", "Also, its {A} is {V}.")
EN_ASKS = (
    "What is the {A} of {E}?",
    "What is the {A} of {E}?",
    "Please tell me the {A} of {E}.",
    "I would like to know the {A} of {E}.",
    "Do you know the {A} of {E}?",
    "The {A} of {E}?",
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
    "date": "哪一天",
    "year": "哪一年",
}


def value_of(attribute: Attribute, names: Names, language: Language) -> str:
    """A fresh value of the attribute's kind."""
    kind, *limits = attribute.value.split()
    if kind == "number":
        low, high, zh_unit, en_unit = limits
        number = names.digits(int(low), int(high))
        return number + zh_unit if language == "zh" else f"{number} {en_unit}"
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
    """A fresh entity: a core and the noun of its kind."""
    zh_noun, en_noun = names.rng.choice(KINDS)
    return names.zh_core() + zh_noun if language == "zh" else f"{names.en_core()} {en_noun}"


def statement(
    attribute: Attribute,
    entity: str,
    value: str,
    names: Names,
    language: Language,
    *,
    value_first: bool = False,
) -> str:
    """One sentence that states the fact, naming the entity."""
    zh = language == "zh"
    generic = ZH_SAYS if zh else EN_SAYS
    own = tuple(form for form in (attribute.zh_says if zh else attribute.en_says) if form[:3] != "{V}")
    form = names.rng.choice(own) if own and names.rng.random() < 0.5 else names.rng.choice(generic)
    if value_first:
        own = tuple(form for form in (attribute.zh_says if zh else attribute.en_says) if form[:3] == "{V}")
        form = names.rng.choice((*own, *(ZH_SAYS_VALUE_FIRST if zh else EN_SAYS_VALUE_FIRST)))
    return _fill(form, attribute, entity, value, language)


def continued(attribute: Attribute, value: str, names: Names, language: Language) -> str:
    """One sentence that states a further fact of the entity just named."""
    forms = ZH_GOES_ON if language == "zh" else EN_GOES_ON
    return _fill(names.rng.choice(forms), attribute, "", value, language)


def question(attribute: Attribute, entity: str, names: Names, language: Language) -> str:
    """One question after the fact."""
    generic, own = (ZH_ASKS, attribute.zh_asks) if language == "zh" else (EN_ASKS, attribute.en_asks)
    form = names.rng.choice(own) if own and names.rng.random() < 0.4 else names.rng.choice(generic)
    return _fill(form, attribute, entity, "", language)


def _fill(form: str, attribute: Attribute, entity: str, value: str, language: Language) -> str:
    noun = attribute.zh if language == "zh" else attribute.en
    asked = _ZH_WORD.get(attribute.value.split()[0], "什么")
    text = form.replace("{A}", noun).replace("{W}", asked)
    return text.replace("{E}", entity).replace("{V}", value)
