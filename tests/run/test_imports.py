"""What importing loads and leaves behind; each case in a process of its own."""

import subprocess
import sys

import pytest


def output_of(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_a_run_imports_next_to_nothing_of_scipy_and_has_it_whole_afterwards():
    loaded, present, hamming, product = output_of("""
import sys
from retable.run.imports import import_all
import_all()
print(sorted({name for name in sys.modules if name in ("scipy.signal", "scipy.stats", "scipy.optimize")}))
import scipy
print("signal" in vars(scipy))
import scipy.signal
print(hasattr(scipy.signal, "hamming"))
print(scipy.signal.convolve([1, 2], [1, 3]).tolist())
""").splitlines()
    assert (loaded, present, hamming) == ("[]", "False", "False")  # scipy itself has dropped the name
    assert product == "[1, 5, 6]"


@pytest.mark.parametrize(
    "asked", ["from scipy.signal import convolve", "import scipy.signal; convolve = scipy.signal.convolve"]
)
def test_whoever_asks_for_more_of_it_meanwhile_gets_it(asked):
    assert output_of(f"""
import sys
from retable.run.imports import scipy_signal_on_demand
with scipy_signal_on_demand():
    import scipy.signal
    print(scipy.signal.hamming)
    {asked}
    print(convolve([1, 2], [1, 3]).tolist(), sys.modules["scipy.signal"].__file__ is not None)
print(scipy.signal is sys.modules["scipy.signal"])
""").splitlines() == ["None", "[1, 5, 6] True", "True"]


def test_what_was_imported_before_stays():
    assert output_of("""
import scipy.signal
from retable.run.imports import scipy_signal_on_demand
before = scipy.signal
with scipy_signal_on_demand():
    print(scipy.signal is before)
print(scipy.signal is before)
""").splitlines() == ["True", "True"]
