"""The generated shapes, and the path from them to a trained model."""
