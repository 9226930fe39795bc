"""Every figure about probabilities: metrics, intervals, calibration, baselines, the report.

Throughout, `labels` are integers 0 = A, 1 = B, 2 = tie, shape (n,); `p` are probabilities of A, B
and tie, float64, shape (n, 3); `groups` and `folds` are those of each row, shape (n,).
"""
