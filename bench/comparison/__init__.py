"""The parts of bench/compare: stand (what runs), load (what is asked of it), proc (CPU of processes), verdict and report."""
