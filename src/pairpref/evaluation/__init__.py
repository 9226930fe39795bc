"""Every figure about probabilities: metrics, intervals, calibration, baselines, the report."""
