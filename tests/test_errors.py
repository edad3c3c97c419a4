import pickle

from metalearn_cli.errors import ConfigError, DataError, reason


def test_what_a_terminal_would_obey_is_printed_with_escapes():
    assert str(DataError("a\x1b[31m\nb\udcff.png: is damaged")) == r"a\x1b[31m\nb\udcff.png: is damaged"


def test_mistakes_in_a_file_are_a_line_each():
    assert str(ConfigError("x.yaml:1: a\nx.yaml:2: b\x07")) == "x.yaml:1: a\nx.yaml:2: b\\x07"


def test_an_overlong_line_keeps_its_file_and_what_to_do():
    told = str(DataError(f"x.csv: has {'a, ' * 50_000}; take one away"))
    assert len(told) == 1500
    assert told.startswith("x.csv: has a, a, ")
    assert " ... " in told
    assert told.endswith("; take one away")


def test_each_line_of_a_message_is_cut_by_itself():
    first, second = str(ConfigError(f"{'a' * 4000}\nx.yaml:2: b")).split("\n")
    assert len(first) == 1500
    assert second == "x.yaml:2: b"


def test_an_error_of_another_process_says_the_same():
    error = pickle.loads(pickle.dumps(DataError("a\nb")))
    assert isinstance(error, DataError)
    assert str(error) == r"a\nb"


def test_what_another_library_says_is_one_short_line():
    assert reason(ValueError("cut  short\n at 3\n")) == "cut short at 3"
    assert reason(EOFError()) == "EOFError"
    assert len(reason(ValueError("x" * 5000))) == 200
