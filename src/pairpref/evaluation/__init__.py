"""How good probabilities are: metrics, truth, calibration and baselines. numpy, pandas and scikit-learn only."""
