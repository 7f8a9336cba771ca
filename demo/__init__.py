"""The main job on real input, in front of your eyes: `make demo`."""
