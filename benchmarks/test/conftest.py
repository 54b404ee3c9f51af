"""Tests of the benchmarks, which the fast ones leave out."""


def pytest_ignore_collect(collection_path, config):
    return config.getoption("--fast", False) or None
