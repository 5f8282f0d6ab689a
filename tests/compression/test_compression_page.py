"""The guide's example is run as it stands, and what it names is there."""

import re
from pathlib import Path

from bedside.compression.groups import list_groups
from compressed_networks import make_batches, make_network, make_spec, task

PAGE = Path(__file__).parents[2] / "docs" / "compression.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_the_example_makes_a_network_smaller():
    (block,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    network = make_network(make_spec(channels=32))
    names = {"network": network, "batches": make_batches(network.spec), "task": task}
    exec(compile(block, str(PAGE), "exec"), names)
    smaller = names["smaller"]
    assert smaller.spec.hidden
    assert smaller.spec.ranks
    assert sum(w.numel() for w in smaller.weights.values()) < sum(
        w.numel() for w in network.weights.values()
    )
    smaller.create()


def test_every_kind_of_group_and_every_linked_file_is_there():
    kinds = {name.split(".")[0] for name in list_groups(make_network(make_spec()))}
    assert all(f"`{kind}" in TEXT for kind in kinds)
    links = re.findall(r"\]\((?!http)([^)#]+)\)", TEXT)
    assert [link for link in links if not (PAGE.parent / link).exists()] == []
