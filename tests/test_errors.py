import pickle

from metalearn_cli.errors import ConfigError, DataError, reason


def test_what_a_terminal_would_obey_is_printed_with_escapes():
    assert str(DataError("a\x1b[31m\nb\udcff.png: is damaged")) == r"a\x1b[31m\nb\udcff.png: is damaged"


def test_mistakes_in_a_file_are_a_line_each():
    assert str(ConfigError("x.yaml:1: a\nx.yaml:2: b\x07")) == "x.yaml:1: a\nx.yaml:2: b\\x07"


def test_an_error_of_another_process_says_the_same():
    error = pickle.loads(pickle.dumps(DataError("a\nb")))
    assert isinstance(error, DataError)
    assert str(error) == r"a\nb"


def test_what_another_library_says_is_one_short_line():
    assert reason(ValueError("cut  short\n at 3\n")) == "cut short at 3"
    assert reason(EOFError()) == "EOFError"
    assert len(reason(ValueError("x" * 5000))) == 200
