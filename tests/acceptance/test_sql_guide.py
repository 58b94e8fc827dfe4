"""The guide to SQL tells the truth: its examples answer what stands below them."""

from tests.support.downloads import ROOT
from tests.support.generate import SQL_GUIDE, sql_guide


def test_examples_answer_what_the_guide_says() -> None:
    """Every example is run in psql, in order; answers and the reference are word for word what is written."""
    assert sql_guide() == (ROOT / SQL_GUIDE).read_text(encoding="utf-8")
