"""A page's view of a review, kept in its address; every address works."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl, urlencode

from backend.core.catalogue import METHODS
from backend.core.errors import Invalid
from backend.review.queue.filters import Filters, Vocabulary, check
from backend.review.queue.orderings import RANKS, Order

PAGE_SIZES = (25, 50, 100)
# Images that a scrolling view loads at a time.
SCROLLING, STEP = "all", 200
# Larger than any rank: "ahead of this" is the last page.
BEHIND_ALL = 2**31 - 1


@dataclass
class View:
    """Order, filters, page size and place; `notes` name the address's errors."""

    order: Order = "queue"
    filters: Filters = field(default_factory=Filters)
    size: int = 50
    scroll: bool = False
    after: int = 0
    before: int | None = None
    at: int = 0
    notes: list[str] = field(default_factory=list)

    @classmethod
    def parse(cls, query: str, vocabulary: Vocabulary) -> "View":
        return cls.read(dict(parse_qsl(query)), vocabulary)

    @classmethod
    def read(cls, query: Mapping[str, str], vocabulary: Vocabulary) -> "View":
        """Read a view from an address; nonsense becomes a note."""
        view = cls()
        view._order(query.get("order", "queue"), vocabulary)
        if query.get("size") == SCROLLING:
            view.scroll, view.size = True, STEP
        elif (size := _number(query.get("size"))) in PAGE_SIZES:
            view.size = size
        # The page's "go to rank" field sends `from`.
        view.after = _number(query.get("after")) or max((_number(query.get("from")) or 0) - 1, 0)
        view.before = _number(query.get("before")) or None
        view.at = _number(query.get("at")) or 0
        for name in Filters.model_fields:
            view._filter(name, query.get(name, ""), vocabulary)
        return view

    def _order(self, text: str, vocabulary: Vocabulary) -> None:
        if text in RANKS or text in vocabulary.methods:
            self.order = text
        elif text in METHODS:
            self.note(
                f"This training was not scored by “{METHODS[text].called}”; "
                "this is the usual order."
            )

    def _filter(self, name: str, text: str, vocabulary: Vocabulary) -> None:
        if not text:
            return
        try:
            filters = self.filters.with_text(name, text)
            check(filters, vocabulary)
        except Invalid as error:
            self.note(f"{error.message} That filter was left out.")
        else:
            if name == "part" and filters.part not in vocabulary.sharers:
                self.note(
                    "That person no longer takes a part of this review. This is the whole queue."
                )
                return
            self.filters = filters

    def note(self, sentence: str) -> None:
        self.notes.append(sentence)

    @property
    def size_name(self) -> str:
        return SCROLLING if self.scroll else str(self.size)

    def last(self) -> "View":
        return replace(self, after=0, before=BEHIND_ALL)

    def first(self) -> "View":
        return replace(self, after=0, before=None)

    def address(self, **place: int | str | None) -> dict[str, int | float | str]:
        """Return this view's query with parts replaced, or omitted if None."""
        query: dict[str, int | float | str | None] = {**self.filters.address()}
        if self.order != "queue":
            query["order"] = self.order
        if self.scroll or self.size != 50:
            query["size"] = self.size_name
        query.update(place)
        return {name: value for name, value in query.items() if value is not None}

    def query(self, **place: int | str | None) -> str:
        return urlencode(self.address(**place))


def _number(text: str | None) -> int | None:
    """Read a whole number up to the largest rank, else None."""
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 10:
        return None
    return min(int(text), BEHIND_ALL)
