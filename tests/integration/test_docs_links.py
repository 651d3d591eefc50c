"""Every relative link in the documentation leads to a file."""

import os
import pathlib
import re

ROOT = pathlib.Path(os.environ.get("KVD_SOURCE_DIR", pathlib.Path(__file__).parents[2]))
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def broken_links(root):
    broken = []
    for page in [*root.glob("*.md"), *root.glob("docs/**/*.md")]:
        for target in LINK.findall(page.read_text()):
            path = target.partition("#")[0]
            if "://" not in target and path and not (page.parent / path).exists():
                broken.append(f"{page.relative_to(root)}: {target}")
    return broken


def test_links_lead_somewhere():
    assert (ROOT / "README.md").exists()
    assert broken_links(ROOT) == []


def test_broken_link_is_found(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("[b](b.md) [a](a.md#x) [web](https://example.org/x)")
    assert broken_links(tmp_path) == ["docs/a.md: b.md"]
