"""Programs started as their own processes: the local platform and the simulated device manager."""
