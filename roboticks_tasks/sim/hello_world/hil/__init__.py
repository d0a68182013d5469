"""Hardware-in-the-loop tests of the example robot: `pytest --pyargs roboticks_tasks.sim.hello_world.hil`."""
