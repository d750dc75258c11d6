"""Secrets of the config."""

import pytest
from pydantic import ValidationError

from gateway.config.secret import Secret


@pytest.mark.parametrize("given", [{}, {"env": "A", "file": "b"}])
def test_a_secret_says_how_it_is_written(given):
    with pytest.raises(ValidationError, match=r"must be \{env: NAME\} or \{file: PATH\}"):
        Secret.model_validate(given)
