"""Which part of a review a page shows: everything in the address, and every address leads to a sane page."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

from backend.core.catalogue import METHODS
from backend.core.errors import Invalid
from backend.review.queue import filters as filtering
from backend.review.queue.filters import Filters, Known
from backend.review.queue.orderings import RANKS, Order

PAGE_SIZES = (25, 50, 100)
# A view that scrolls is read on in pages of this many.
SCROLLING, STEP = "all", 200
# Larger than any rank: "ahead of this" is the last page.
BEHIND_ALL = 2**31 - 1


@dataclass
class View:
    """Order, filters, page size and place; `notes` say what of the address could not be used."""

    order: Order = "queue"
    filters: Filters = field(default_factory=Filters)
    size: int = 50
    scroll: bool = False
    after: int = 0
    before: int | None = None
    at: int = 0
    notes: list[str] = field(default_factory=list)

    @classmethod
    def parse(cls, query: str, known: Known) -> "View":
        """The view of a query string."""
        return cls.read(dict(parse_qsl(query)), known)

    @classmethod
    def read(cls, query: Mapping[str, str], known: Known) -> "View":
        """The view of an address; what makes no sense is left out with a note."""
        view = cls()
        view._order(query.get("order", "queue"), known)
        if query.get("size") == SCROLLING:
            view.scroll, view.size = True, STEP
        elif (size := _number(query.get("size"))) in PAGE_SIZES:
            view.size = size
        # `from` is what the page's own "go to rank" field asks for.
        view.after = _number(query.get("after")) or max((_number(query.get("from")) or 0) - 1, 0)
        view.before = _number(query.get("before")) or None
        view.at = _number(query.get("at")) or 0
        for name in READERS:
            view._filter(name, query.get(name, ""), known)
        return view

    def _order(self, text: str, known: Known) -> None:
        if text in RANKS or text in known.methods:
            self.order = text
        elif text in METHODS:
            self.note(
                f"This training was not scored by “{METHODS[text].called}”; this is the usual order."
            )

    def _filter(self, name: str, text: str, known: Known) -> None:
        if not text:
            return
        try:
            changed: dict[str, Any] = {name: READERS[name](text)}
            filters = replace(self.filters, **changed)
            filtering.check(filters, known)
        except Invalid as error:
            self.note(f"{error.message} That filter was left out.")
        else:
            if name == "part" and filters.part not in known.sharers:
                self.note(
                    "That person takes no part of this review any more. This is the whole queue."
                )
                return
            self.filters = filters

    def note(self, sentence: str) -> None:
        """Tell the person something about this address."""
        self.notes.append(sentence)

    @property
    def size_name(self) -> str:
        """The page size as the address says it."""
        return SCROLLING if self.scroll else str(self.size)

    def last(self) -> "View":
        """The last page of this view."""
        return replace(self, after=0, before=BEHIND_ALL)

    def first(self) -> "View":
        """The first page of this view."""
        return replace(self, after=0, before=None)

    def address(self, **place: int | str | None) -> dict[str, int | float | str]:
        """The query of this view with a place (after, before, at, or a changed filter) put in; None takes a part out."""
        query: dict[str, int | float | str | None] = {**self.filters.address()}
        if self.order != "queue":
            query["order"] = self.order
        if self.scroll or self.size != 50:
            query["size"] = self.size_name
        query.update(place)
        return {name: value for name, value in query.items() if value is not None}

    def query(self, **place: int | str | None) -> str:
        """`address` as it stands behind the question mark."""
        return urlencode(self.address(**place))


def _number(text: str | None) -> int | None:
    """A whole number from 0 to the largest rank; None for anything else."""
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 10:
        return None
    return min(int(text), BEHIND_ALL)


def _class(text: str) -> int:
    if (number := _number(text)) is None:
        raise Invalid(f"“{text}” is no class of this data set.")
    return number


def _person(text: str) -> int:
    if (number := _number(text)) is None:
        raise Invalid(f"“{text}” is no person's number.")
    return number


def _group(text: str) -> int:
    if (number := _number(text)) is None:
        raise Invalid(f"“{text}” is no number of a group or a selection.")
    return number


def _percentage(text: str) -> float:
    if not re.fullmatch(r"\d{1,3}(\.\d{1,6})?", text, re.ASCII):
        raise Invalid(f"“{text}” is no percentage.")
    return float(text)


# Filter → how its text in the address is read; each raises Invalid.
READERS: dict[str, Callable[[str], int | float | str]] = {
    "label": _class,
    "predicted": _class,
    "decision": str,
    "by": _person,
    "accuracy_min": _percentage,
    "accuracy_max": _percentage,
    "label_min": _percentage,
    "label_max": _percentage,
    "group": _group,
    "selection": _group,
    "part": _person,
    "not_by": _person,
}
