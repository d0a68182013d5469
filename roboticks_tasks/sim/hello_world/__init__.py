"""The example robot: two compositions to deploy and a suite of hardware-in-the-loop tests for them.

`deployment/` is what goes to a device; `hil/` is run with `pytest --pyargs roboticks_tasks.sim.hello_world.hil`.
"""
