"""What is left after training: the model, the result, their files, predictions."""
