"""The fixtures of the end-to-end tests are those of the tests with faults."""

from tests.e2e.conftest import bench, shared_bench

__all__ = ["bench", "shared_bench"]
