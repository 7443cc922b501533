"""What a trained model is, and every rule that training and serving must share."""
