"""The page on profiles: what it shows works."""

import re
from importlib.resources import files

import pytest

from gateway.executors.http_profile.profile import Means, Profile
from gateway.executors.http_profile.reading import read_profile, shipped

PAGE = files("gateway.executors.http_profile").joinpath("README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def test_the_profile_that_it_shows_can_be_used(tmp_path):
    file = tmp_path / "shown.yaml"
    file.write_text(BLOCKS[-1])

    assert read_profile(str(file)).list is not None


@pytest.mark.parametrize("word", [*shipped(), *Means, *Profile.model_fields])
def test_it_names_everything(word):
    assert f"`{word}`" in PAGE or re.search(rf"(?m)^ *{word}: |^{word}:|`{word}: ", PAGE)
