"""How good probabilities are: metrics, truth, calibration and yardsticks. numpy, pandas and scikit-learn only."""
