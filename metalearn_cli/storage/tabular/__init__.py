"""Tables of numbers on disk: the files that a person has, and the prepared store that training reads."""
