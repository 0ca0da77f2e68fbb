"""The soak in short, and that it would notice."""

import subprocess
import sys

import pytest
from conftest import ROOT
from soak import compare

WORDS = "1 2 3 4".split()


@pytest.mark.parametrize("got, whole, wrong", [
    ("1 2 3 4", True, (0, 0)), ("1 2 4", True, (1, 0)), ("1 2 2 3 4", True, (0, 1)), ("1 3 2 4", True, (0, 1)),
    ("", True, (4, 0)), ("1 2", True, (2, 0)), ("1 2", False, (0, 0)), ("1 3", False, (2, 0)),
    ("1 2 2", False, (2, 1))])
def test_a_word_that_is_lost_doubled_or_out_of_place_counts(got, whole, wrong):
    assert compare(WORDS, got.split(), whole) == wrong


def test_a_short_soak_loses_nothing_and_leaves_nothing():
    done = subprocess.run([sys.executable, ROOT / "tests/soak.py", "--seconds", "4", "--callers", "8"],
                          capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok   lost deltas: 0" in done.stdout and "UNEXPECTED" not in done.stdout
