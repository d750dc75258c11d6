"""Writes YAML that `marked_yaml` reads back as the same values."""

import yaml

_TEXT = "tag:yaml.org,2002:str"


def written(data: object) -> str:
    """Return *data*, made of what JSON knows, as YAML; a `${` in it stays a `${`."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True

    def text(self, data: str) -> yaml.Node:
        # PyYAML folds odd line ends inside every other style, and they come back as spaces.
        style = None if data.isprintable() else '"'
        return self.represent_scalar(_TEXT, data.replace("${", "$${"), style)


_Dumper.add_representer(str, _Dumper.text)
