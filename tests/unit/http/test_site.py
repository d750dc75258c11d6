"""Which place a path leads to, and what its variables stand for."""

import pytest
from aiohttp import web

from gateway.http.answers import Answer
from gateway.http.dialects.base import NATIVE
from gateway.http.site import Site


class Named:
    """A place that is never asked for anything."""

    dialect = NATIVE

    def __init__(self, name: str) -> None:
        self.name = name

    async def answer(self, request: web.BaseRequest) -> Answer:
        raise NotImplementedError


@pytest.fixture
def site() -> Site:
    site = Site()
    for template in (
        "/plain",
        "/s/{id:[^/]+}",
        "/s/{id:[^/]+}/work.zip",
        r"/s/{id:[^/]+}/files/{path:[\s\S]*}",
    ):
        site.mount(template, Named(template))
    return site


@pytest.mark.parametrize(
    ("path", "place", "variables"),
    [
        ("/plain", "/plain", {}),
        ("/plain/", "unmatched", {}),
        ("/s/", "unmatched", {}),
        ("/s/a", "/s/{id:[^/]+}", {"id": "a"}),
        ("/s/a%2Fb%25", "/s/{id:[^/]+}", {"id": "a/b%"}),
        ("/s/a%252F", "/s/{id:[^/]+}", {"id": "a%2F"}),
        ("/s/a/work.zip", "/s/{id:[^/]+}/work.zip", {"id": "a"}),
        ("/s/a/workxzip", "unmatched", {}),
        ("/s/a/files/", r"/s/{id:[^/]+}/files/{path:[\s\S]*}", {"id": "a", "path": ""}),
        ("/s/a/files/b\n/c", r"/s/{id:[^/]+}/files/{path:[\s\S]*}", {"id": "a", "path": "b\n/c"}),
        ("", "unmatched", {}),
        ("*", "unmatched", {}),
    ],
)
def test_a_path_leads_to_one_place(
    site: Site, path: str, place: str, variables: dict[str, str]
) -> None:
    found, its_variables = site.find(path)

    assert (found.name, its_variables) == (place, variables)


def test_nothing_stands_on_an_empty_site() -> None:
    assert Site().find("/plain")[0].name == "unmatched"
