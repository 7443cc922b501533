"""How good a model is: metrics, calibration, evaluation."""
