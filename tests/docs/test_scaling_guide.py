"""The policy in the guide can be read, and shows the defaults."""

import re
from pathlib import Path

import msgspec

from events.policy import Policy
from interfaces import policyfile

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "scaling.md"


def test_the_policy_of_the_guide_is_the_one_that_a_node_has(tmp_path: Path) -> None:
    block = re.search(r"```toml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert block is not None
    file = tmp_path / "policy.toml"
    file.write_text(block[1])
    told = policyfile.read(file)
    assert told == msgspec.structs.replace(Policy(), auto_scale_down=told.auto_scale_down)
    assert told.shrinks == Policy().shrinks
