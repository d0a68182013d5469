"""What the seven functions stand on: places and control of the device manager, sightings, test command, record."""
