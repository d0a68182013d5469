"""doctor: what is wrong with a bench, before a run finds it out."""
