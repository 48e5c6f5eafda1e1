import pytest

from nestlib.notebook import ParameterError, check_parameters, declared_parameters

DECLARED = """budget: str = "quick"  # how long
seeds: int = 3  # runs of each row
rate: float = 0.5  # of something
ema: bool = False  # or not
"""


def given(text):
    check_parameters(["import x", DECLARED, f"# Parameters\n{text}\n", "from nestlib import y"])


def test_known_parameters_pass():
    given("budget = 'smoke'\nseeds = 1\nrate = 1\nema = True")
    check_parameters(["", DECLARED, "print(1)"])  # nothing injected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = 3", r"unknown parameter 'seed' \(did you mean seeds\?\); valid parameters:"),
        ("zzz = 3", "unknown parameter 'zzz'; valid parameters:"),
        ("seeds = 2.5", r"parameter 'seeds' must be int, got 2.5 \(float\)"),
        ("seeds = True", r"parameter 'seeds' must be int, got True \(bool\)"),
        ('ema = "yes"', r"parameter 'ema' must be bool, got 'yes' \(str\)"),
        ("budget = 1", r"parameter 'budget' must be str, got 1 \(int\)"),
    ],
)
def test_others_stop_with_the_valid_ones(text, message):
    with pytest.raises(ParameterError, match=message) as error:
        given(text)
    for line in ("budget: str = 'quick'  (how long)", "seeds: int = 3  (runs of each row)"):
        assert line in str(error.value)


def test_declarations_are_read_with_their_help():
    parameters = declared_parameters(DECLARED)
    assert [str(p) for p in parameters.values()][2] == "rate: float = 0.5  (of something)"
    assert declared_parameters("%matplotlib inline") == {}
