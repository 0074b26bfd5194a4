"""One way to ask Kubeflow Pipelines' API, and to tell what went wrong."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from pipeline.runners.kubeflow.api.errors import Caller
from schemas.errors import KubeflowError

if TYPE_CHECKING:
    import kfp

    from pipeline.runners.kubeflow.api.access import Access

_CONNECT_S, _READ_S = 10, 60
_PAGE = 100
_EQUALS = 1  # FilterPredicate's operation
_T = TypeVar("_T")


class Connection:
    """One endpoint of Kubeflow Pipelines. Every method raises KubeflowError; Unreachable when asking again may help."""

    def __init__(self, client: kfp.Client, access: Access) -> None:
        from urllib3 import Retry

        self.client = client
        self._http = client.runs.api_client
        self._http.rest_client.pool_manager.connection_pool_kw["retries"] = Retry(
            total=None, connect=1, read=1, redirect=10, other=0
        )
        self.endpoint: str = self._http.configuration.host
        self.namespace: str | None = None
        """Whose pipelines and runs are meant; None where KFP has one user, and takes no namespace."""
        self._told_namespace = access.namespace or ""

    def settle(self, namespace: str, *, multi_user: bool) -> None:
        """From here on ask for what is of this namespace, where namespaces are told apart."""
        self.namespace = namespace if multi_user else None
        self._told_namespace = namespace

    def ask(self, method: Callable[..., _T], *args: Any, doing: str, **kwargs: Any) -> _T:
        """What a method of the generated client answers to these arguments."""
        with self._translated(doing):
            answer = method(*args, _request_timeout=(_CONNECT_S, _READ_S), **kwargs)
            last = self._http.last_response
            if not _is_json(last.data):
                raise self._caller().something_else(last.data)
            return answer

    def said(self) -> Any:
        """The last answer as the API wrote it: the generated models of this client know no names."""
        return json.loads(self._http.last_response.data)

    def pages(
        self, method: Callable[..., Any], field: str, *args: Any, doing: str, **kwargs: Any
    ) -> Iterator[dict[str, Any]]:
        """The items of a list, page after page, each as the API wrote it."""
        token = ""
        while True:
            self.ask(method, *args, doing=doing, page_token=token, page_size=_PAGE, **kwargs)
            page = self.said()
            yield from page.get(field) or ()
            token = page.get("next_page_token") or ""
            if not token:
                return

    def id_of(
        self, name: str, method: Callable[..., Any], field: str, key: str, *args: Any, doing: str, **kwargs: Any
    ) -> str | None:
        """What stands under `key` in the item of exactly this name; None where the list has none."""
        listed = self.pages(method, field, *args, doing=doing, filter=equal("name", name), **kwargs)
        return next((str(item[key]) for item in listed if _name(item) == name), None)

    def of_namespace(self) -> dict[str, Any]:
        """What a list of things that belong to a namespace is asked with."""
        return {"namespace": self.namespace} if self.namespace else {}

    def get(self, path: str, *, doing: str) -> Any:
        """The JSON at a path that the generated client does not know."""
        data = self.raw(path, doing=doing).data
        try:
            return json.loads(data)
        except ValueError:
            raise self._caller().something_else(data) from None

    def raw(self, path: str, *, doing: str) -> Any:
        """The whole answer to a GET of a path."""
        with self._translated(doing):
            return self._http.call_api(
                path,
                "GET",
                header_params={"Accept": "*/*"},
                response_type="bytes",
                auth_settings=["Bearer"],
                _preload_content=False,
                _request_timeout=(_CONNECT_S, _READ_S),
            )

    @contextlib.contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        from kfp_server_api import ApiException
        from urllib3.exceptions import HTTPError

        try:
            with quiet():
                yield
        except ApiException as error:
            raise self._caller().refused(error, doing) from error
        except HTTPError as error:
            raise self._caller().unreachable(error, _CONNECT_S) from error
        except (AttributeError, ValueError, TypeError) as error:
            # The generated client stumbles over answers that are not what they should be.
            raise KubeflowError(f"{self.endpoint}: an answer that is not Kubeflow's, to: {doing} ({error})") from error

    def _caller(self) -> Caller:
        return Caller(self.endpoint, self._told_namespace, self._http.configuration.api_key.get("authorization"))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what kfp and urllib3 print, warn and log from our output."""
    loggers = [logging.getLogger(name) for name in ("urllib3.connectionpool", "root")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def equal(key: str, value: str) -> str:
    """The filter of a list for what has this value."""
    # The API decodes it once more than any other value of a query: a plus or a percent sign in a name would be lost.
    return quote(json.dumps({"predicates": [{"operation": _EQUALS, "key": key, "stringValue": value}]}), safe="")


def _name(item: Mapping[str, Any]) -> str:
    """What is unique. Before 2.14 there was only what the UI shows."""
    return str(item.get("name") or item.get("display_name"))


def _is_json(data: bytes | str) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True
