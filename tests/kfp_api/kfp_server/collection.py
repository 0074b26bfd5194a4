"""The things of one kind that the backend keeps, which lists show in pages."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_plus

from kfp_server.calls import ALREADY_EXISTS, INVALID_ARGUMENT, NOT_FOUND, Json, Refusal, Request


@dataclass
class Collection:
    """The things of one kind: their ids, the names that may be there once, lists in pages."""

    kind: str  # 'Pipeline', for messages
    plural: str  # field of a list's answer
    id: str  # field of the id
    unique: tuple[str, ...] = ("name", "namespace")  # together; empty where names may repeat
    items: dict[str, Json] = field(default_factory=dict)

    def add(self, item: Json, taken: str) -> Json:
        """Keep a new thing, or refuse it since its name is `taken`."""
        if self.unique and any(
            all(old.get(key) == item.get(key) for key in self.unique) for old in self.items.values()
        ):
            raise Refusal(ALREADY_EXISTS, taken)
        item = {self.id: str(uuid.uuid4()), **item, "created_at": now()}
        self.items[item[self.id]] = item
        return item

    def get(self, key: str) -> Json:
        """The thing of this id."""
        if key not in self.items:
            raise Refusal(NOT_FOUND, f"{self.kind} {key} not found")
        return self.items[key]

    def page(self, request: Request, within: Mapping[str, Any] = {}) -> Json:
        """A page of what the query asks for, with the token of the next. A token of another query is refused."""
        query = {name: request.query.get(name, "") for name in ("filter", "sort_by")}
        size = min(int(request.query.get("page_size") or 20) or 20, 200)
        begin = 0
        if token := request.query.get("page_token"):
            said = json.loads(base64.b64decode(token))
            begin = said.pop("begin")
            if any(query.values()) and said != query:
                raise Refusal(
                    INVALID_ARGUMENT, "page token does not match the supplied sort by and/or filtering criteria"
                )
        found = [
            item for item in self.items.values() if all(item.get(key, "") == value for key, value in within.items())
        ]
        found = [item for item in found if _matches(item, query["filter"])]
        key, _, direction = query["sort_by"].partition(" ")
        found.sort(key=lambda item: item.get(key or "created_at", ""), reverse=direction == "desc")
        answer: Json = {self.plural: found[begin : begin + size], "total_size": len(found)}
        if begin + size < len(found):
            answer["next_page_token"] = base64.b64encode(json.dumps({"begin": begin + size, **query}).encode()).decode()
        return answer


def _matches(item: Json, text: str) -> bool:
    for predicate in json.loads(unquote_plus(text)).get("predicates", []) if text else []:
        key, operation = predicate["key"], predicate["operation"]
        if key not in (
            "id",
            "name",
            "display_name",
            "namespace",
            "state",
            "storage_state",
            "experiment_id",
            "recurring_run_id",
            "description",
            "created_at",
        ):
            raise Refusal(INVALID_ARGUMENT, f"key {key!r} is not a field")
        if operation not in (1, "EQUALS", 2, "NOT_EQUALS", 9, "IS_SUBSTRING"):
            raise Refusal(INVALID_ARGUMENT, f"operation {operation!r} is not in this fake")
        wanted = next(value for name, value in predicate.items() if name.lower().replace("_", "").endswith("value"))
        has = item.get(key) if key in item else item.get("display_name")
        if operation in (1, "EQUALS") and has != wanted:
            return False
        if operation in (2, "NOT_EQUALS") and has == wanted:
            return False
        if operation in (9, "IS_SUBSTRING") and str(wanted) not in str(has):
            return False
    return True


def now() -> str:
    """As the API writes it: whole seconds, and here parts of them so that the order of making is kept."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
