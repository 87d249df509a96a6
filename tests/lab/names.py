"""Names and values assembled from pieces; a checksum settles which of them training may see."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable


def listed(text: str) -> tuple[str, ...]:
    """Split words at bars, which keeps long tables readable."""
    return tuple(text.split("|"))


# Characters that occur in names only, never in a template: the vocabulary keeps them whole and unmerged.
ZH_PIECES = (
    "岚澄翠苍朔曦霁沁漓瑶珂琼璟黛墨绯靛湛泓淼濂浔渭泾洛沂淇潞滁泸邕闽赣皖蜀滇黔陇冀豫晋翰骁骏骊"
    "麒麟鹤鸢鹭隼雁鸿鲲鳞蛟虬屿岑岱峦峪嵩巍壑坞垣埠堰墩霖霏霞霓霜雯雳昭昱晏晟晗暄暮枫枳柏柚栩"
    "桐桦梓楠榆槿樱橙檀竺笙筠箫篱芷芸苓茗茜荇荻莲菱萱葵蒲蓉蔷蕙薇藜蘅轩辕逸遥郁郴鄞钧铎铭锦镜"
    "阑陌陶隽雍颐飒馥驿鲁鹏黎龙凤凌凝凡倩俪佩"
)
ZH_SURNAMES = "赵钱孙李周吴郑王冯陈褚卫蒋沈韩杨朱秦许何吕施张孔曹严魏姜戚谢邹喻苏潘葛范彭郎韦昌"

EN_FIRST = listed(
    "Vel|Tor|Bri|Sal|Dun|Kel|Ro|Fen|Ash|Lor|Mi|Gra|Thal|Wy|Nor|Pel|Dra|Quin|Zan|Hol|Bex|Cor|Jun"
    "|Ty|Os|Ul|El|Fra|Gil|Har|Ix|Ja|Lun|Mor|Ned|Op|Pra|Ral|Sto|Tam|Ur|Vin|Wex|Yor|Cal|Den|Eb|Fo"
    "|Hes|Kip"
)
EN_LATER = listed(
    "mar|den|ro|lin|vash|tor|wick|dale|mor|bus|ger|ton|rik|sa|lo|fer|nax|quil|da|mond|by|vern"
    "|zo|pha|sken|tra|gul|hom|jin|kas|lep|mun|nix|pod|rut|sil|tuk|vop|wen|yat|zim|beck|cob|dop"
    "|fug|gan|hig|jol"
)


FEW_LEFT = 200  # draws in vain, after which a piece may serve again


class Split(StrEnum):
    """The side of the checksum that a name is on."""

    TRAIN = "train"
    HELD_OUT = "held-out"


def split_of(text: str) -> Split:
    """Return the split of a name: one in eight is kept from training, by a checksum."""
    return Split.HELD_OUT if zlib.crc32(text.encode()) % 8 == 0 else Split.TRAIN


@dataclass(frozen=True)
class Names:
    """Draws names and values that belong to one split only; no piece of a name serves twice in a dialogue."""

    rng: random.Random
    split: Split
    used: set[str] = field(default_factory=set)

    def _draw(self, make: Callable[[], str]) -> str:
        while split_of(text := make()) is not self.split:
            pass
        return text

    def _draw_fresh(self, make: Callable[[], tuple[str, ...]]) -> str:
        """Make a name of pieces that no earlier name has, as long as there are any."""
        for attempt in count():
            pieces = make()
            text = "".join(pieces)
            if split_of(text) is self.split and (self.used.isdisjoint(pieces) or attempt > FEW_LEFT):
                break
        self.used.update(pieces)
        return text

    def zh_core(self) -> str:
        """Make a Chinese proper name of two characters, sometimes three."""
        size = 3 if self.rng.random() < 0.15 else 2
        return self._draw_fresh(lambda: tuple(self.rng.sample(ZH_PIECES, size)))

    def zh_person(self) -> str:
        """Make a Chinese person: a surname and a given name."""
        size = self.rng.choice((1, 2, 2))
        return self._draw_fresh(lambda: (self.rng.choice(ZH_SURNAMES), *self.rng.sample(ZH_PIECES, size)))

    def en_core(self) -> str:
        """Make an English-looking proper name of two syllables, sometimes three."""
        size = 2 if self.rng.random() < 0.2 else 1
        return self._draw_fresh(lambda: (self.rng.choice(EN_FIRST), *self.rng.sample(EN_LATER, size)))

    def en_person(self) -> str:
        """Make an English person: a first and a last name."""
        return f"{self.en_core()} {self.en_core()}"

    def digits(self, low: int, high: int) -> str:
        """Make a whole number within the limits."""
        return self._draw(lambda: str(self.rng.randint(low, high)))

    def code(self) -> str:
        """Make a catalog number of two capitals and digits."""
        return self._draw(
            lambda: "".join(self.rng.sample("ABCDEFGHJKLMNPQRSTUVWXYZ", 2)) + f"-{self.rng.randint(10, 999)}"
        )
