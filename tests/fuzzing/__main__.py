"""Bytes that a coverage-guided fuzzer thinks up, against the decoder: `make fuzz SECONDS=60`.

Whatever they are, decoding ends with an event or with a refusal that can be stored; what the quick way takes, the
careful way takes, and equally; and memory is bounded. It begins with the poison corpus, and prints how many inputs it
has tried. One that fails is written to a file, and `make fuzz INPUT=FILE` repeats it.

atheris has no wheels for every system and every Python, so it is installed for this alone.
"""

import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

MAX_BYTES = 4096
# What libFuzzer would need long to find: the words of an event, and what is dangerous in values.
WORDS = (
    *('"id":', '"type":', '"register":', '"recorder":', '"revision":', '"period":', '"movements":[{', '"movement"'),
    *('"unpost"', '"repost"', '"inventory"', '"everything"', '"warehouse":', '"quantity":', '"2026-04-18T10:00:00Z"'),
    *("\\\\u0000", "\\\\ud800", "1e999999", "NaN", "-Infinity", "null", "[[", "]]", "}]}", "-0", "\\xef\\xbb\\xbf"),
)


def main(arguments: list[str]) -> None:
    """Run for so many seconds, or repeat one file."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["ingest.domain"]):
        properties = importlib.import_module("tests.fuzzing.properties")
    folder = Path(tempfile.mkdtemp(prefix="ts-fuzz-"))
    for number, value in enumerate(properties.seeds(MAX_BYTES)):
        (folder / f"seed-{number}").write_bytes(value)
    words = folder.with_suffix(".dict")
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in WORDS), encoding="utf-8")
    (what,) = arguments
    bounds = [f"-max_len={MAX_BYTES}", "-rss_limit_mb=1024", "-timeout=10", "-print_final_stats=1"]
    target = [f"-max_total_time={what}", f"-dict={words}", str(folder)] if what.isdecimal() else [what]
    atheris.Setup([sys.argv[0], *bounds, *target], properties.decodes_like_it_should)
    atheris.Fuzz()


def _escaped(word: str) -> str:
    return word.replace('"', '\\"')


if __name__ == "__main__":
    main(sys.argv[1:])
