"""The reference of keys is what the types and docstrings say today."""

from docs.generator.reference import PAGE, page


def test_the_page_is_up_to_date():
    assert PAGE.read_text() == page(), "run python -m docs.generator.reference"


def test_a_key_has_its_type_unit_default_and_meaning():
    [row] = [line for line in page().splitlines() if line.startswith("| `meta_batch_size`")]
    assert row == "| `meta_batch_size` | integer from 1 to 65536 | tasks | `4` | the number of tasks in a meta-step. |"
