"""The environment of one test is not the next one's."""

import os


def test_a_variable_is_left_behind():
    os.environ["MASTER_ADDR"] = "node07"
    del os.environ["PATH"]


def test_and_is_gone_in_the_next_test():
    assert "MASTER_ADDR" not in os.environ
    assert os.environ["PATH"]
