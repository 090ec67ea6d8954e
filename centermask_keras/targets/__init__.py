"""Training targets: ground truth to what the losses compare with."""
