"""The attributes of the synthetic world, domain by domain."""

from __future__ import annotations

from harness.reference.world import words as w
from harness.reference.world.facts import Attribute
from harness.reference.world.words import Pool

_DERIVED = 0.4  # share held out of the attributes that OpenBookQA and PIQA ask for


def attributes(names: dict[str, Pool]) -> tuple[Attribute, ...]:
    """Every attribute; `names` has the pools made of invented names."""
    return (*_nature(), *_people(names), *_places(names))


def _nature() -> tuple[Attribute, ...]:
    zoo, mat = "zoology", "materials"
    return (
        Attribute("color", zoo, w.COLORS, "what color is the {} ?", "the {} is colored"),
        Attribute("size", zoo, w.SIZES, "what size is the {} ?", "the {} grows"),
        Attribute("home", zoo, w.HOMES, "where does the {} live ?", "the {} lives in the"),
        Attribute("food", zoo, w.FOODS, "what does the {} eat ?", "the {} eats"),
        Attribute("cover", zoo, w.COVERS, "what covers the {} ?", "the {} has"),
        Attribute("move", zoo, w.MOVES, "how does the {} flee ?", "in danger the {}", _DERIVED),
        Attribute("material", mat, w.MATERIALS, "what is the {} made of ?", "the {} is made of"),
        Attribute("room", mat, w.ROOMS, "where is the {} kept ?", "the {} is kept in the"),
        Attribute("use", mat, w.USES, "what is the {} used for ?", "the {} is used for", _DERIVED),
        Attribute(
            "behaviour",
            mat,
            w.BEHAVIOURS,
            "what will happen to the {} ?",
            "under stress the {} will",
            _DERIVED,
        ),
    )


def _people(names: dict[str, Pool]) -> tuple[Attribute, ...]:
    dom = "careers"
    return (
        Attribute("job", dom, w.JOBS, "what is the job of {} ?", "{} works as a"),
        Attribute("town", dom, names["town"], "where does {} live ?", "{} lives in"),
        Attribute("pet", dom, names["pet"], "what pet does {} keep ?", "{} keeps a pet"),
        Attribute("hobby", dom, w.HOBBIES, "what does {} enjoy ?", "{} enjoys"),
    )


def _places(names: dict[str, Pool]) -> tuple[Attribute, ...]:
    geo, biz = "geography", "business"
    return (
        Attribute("land", geo, names["land"], "in what land is {} ?", "{} is a town of"),
        Attribute(
            "climate", geo, w.CLIMATES, "what is the weather in {} ?", "the weather in {} is"
        ),
        Attribute(
            "river", geo, names["river"], "what river flows through {} ?", "the river of {} is"
        ),
        Attribute("product", biz, w.PRODUCTS, "what does {} sell ?", "{} sells"),
        Attribute(
            "office", biz, names["town"], "where is the office of {} ?", "the office of {} is in"
        ),
        Attribute("sign", biz, w.COLORS, "what color is the sign of {} ?", "the sign of {} is"),
        Attribute("sum", "arithmetic", w.NUMBERS, "what is {} ?", "{} is"),
    )
