"""The exams that every backend sits: inherit, give the fixture, and all tests are yours."""

NASTY_NAMES = [
    "with space",
    " leading and trailing ",
    "percent%",
    "percent%41",
    "percent%2Fslash",
    "a+b",
    "#hash",
    "what?",
    "a;b",
    "a&b=c",
    "it's",
    'say "so"',
    "<tag>",
    "[square]{curly}",
    "back\\slash",
    "dollar$^~`|!*(),@",
    "new\nline",
    "carriage\rreturn",
    "tab\tstop",
    "\u00fcml\u00e4ut",
    "\u4e2d\u6587",
    "\U0001f600 emoji",
    "\U0010ffff last",
    "\ufeffbom",
    "...",
    "-rf",
    "\u00fc" * 127 + "x",
]
"""Names that servers, URLs and XML are known to trip over; the last has a component's full 255 bytes.

No ``:``, which HDFS refuses.
"""

NFC = "caf\u00e9"
NFD = "cafe\u0301"
"""Two names that look the same, and are not."""
