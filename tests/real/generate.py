"""Trees that are hard to copy: names HDFS allows and others stumble over, empty files, wide directories."""

from __future__ import annotations

from testbed.content import Content

BLOCK_SIZE = 1 << 20
"""The test cluster's, in bytes: small, so that a small file has many."""

NFC = "caf\u00e9"
NFD = "cafe\u0301"
"""The same word to the eye, two names to HDFS; its redirects turn the second into the first."""

ODD_NAMES = (
    "plain",
    "sp ace",
    " leading",
    "trailing ",
    "100%",
    "%41",
    "%2F",
    "a+b",
    "a#b",
    "a?b",
    "a;b",
    "a;b=c",
    "a&b=c",
    "a=b",
    "new\nline",
    "tab\tx",
    "return\rx",
    "\x01control",
    "\x7fdelete",
    "quote\"'",
    "back\\slash",
    "a,b",
    "star*",
    "[bracket]",
    "{brace}",
    "a|b",
    "<angle>",
    "~tilde",
    "^caret",
    "`grave",
    "$dollar",
    "@at",
    "!bang",
    "(paren)",
    "-dash",
    "...",
    ".hidden",
    NFC,
    NFD,
    "\U0001f600",
    "\u200bzero-width",
    "\ufeffmark",
    "a\u2028b",
    "\U0010ffff",
    "\u00fc" * 127 + "x",
    "n" * 255,
)
"""Every one legal in HDFS (a colon and NUL are not). The last two fill the 255 bytes a component may have."""

LONGEST = frozenset(name for name in ODD_NAMES if len(name.encode()) == 255)
NOT_IN_XML = frozenset({"\x01control"})
"""A listing in XML 1.0 cannot name these, not even escaped."""


def odd_tree(names: tuple[str, ...] = ODD_NAMES) -> dict[str, Content]:
    """A file of each name in a directory of the same name, each with bytes of its own."""
    return {f"{name}/{name}": Content(7_000 + index, 1_000 + index) for index, name in enumerate(names)}


def empty_files(count: int = 3) -> dict[str, Content]:
    return {f"empty/{index}": Content(0, 0) for index in range(count)}


def edge_sizes(block: int = BLOCK_SIZE) -> dict[str, Content]:
    """Lengths around the borders of checksum chunks, blocks and their powers of two."""
    sizes = (0, 1, 511, 512, 513, block - 1, block, block + 1, 2 * block, 3 * block + 7, 5 * block)
    return {f"size-{size}": Content(8_000 + index, size) for index, size in enumerate(sizes)}


def wide_directory(entries: int = 300, name: str = "wide") -> dict[str, Content]:
    """One directory of many small files: with a small dfs.ls.limit, many pages."""
    return {f"{name}/entry-{index:04}": Content(9_000 + index, index) for index in range(entries)}
